// Every kernel of every example in fp8.
import { sweep } from './sweep.ts';

await sweep('fp8', 'all');
