// Every kernel of every example in f32; with many tokens one of each kind. `npm run test:long` runs all.
import { sweep } from './sweep.ts';

await sweep('f32', 'sampled');
