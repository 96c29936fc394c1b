// Every kernel of every example in f32.
import { sweep } from './sweep.ts';

await sweep('f32', 'all');
