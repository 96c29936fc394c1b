// Every kernel of every example in every precision, with one token and with many.
import { precisions } from './models.ts';
import { sweep } from './sweep.ts';

for (const precision of precisions) await sweep(precision, 'all');
