// `npm run bench:promotion`: the error of FP8 products summed in the tensor core, with and without promotion to f32 every
// 128 of K.
import { load } from './load.mjs';

const { promotionTable } = await load(`export * from './test/support/promotion.ts';`);
console.log(promotionTable());
