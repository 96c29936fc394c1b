// Every kernel of every example in bf16; with many tokens one of each kind. `npm run test:long` runs all.
import { sweep } from './sweep.ts';

await sweep('bf16', 'sampled');
