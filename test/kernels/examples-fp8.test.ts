// Every kernel of every example in fp8; with many tokens one of each kind. `npm run test:long` runs all.
import { sweep } from './sweep.ts';

await sweep('fp8', 'sampled');
