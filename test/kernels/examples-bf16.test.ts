// Every kernel of every example in bf16.
import { sweep } from './sweep.ts';

await sweep('bf16', 'all');
