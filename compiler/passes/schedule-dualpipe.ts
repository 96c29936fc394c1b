// Adds the schedule of a training step's micro-batches over pipeline stages, as the model's deployment declares it. Named
// for DualPipe; the other kinds are made, verified and drawn by the same means.
import { DiagnosticError } from '../../ir/diagnostics.ts';
import type { Pass } from '../pass.ts';
import { declaresPipeline, scheduleOfModel } from '../schedule/from-model.ts';
import { verifySchedule } from '../schedule/verify.ts';

export const scheduleDualpipe: Pass = {
  name: 'schedule-dualpipe',
  doc: 'orders micro-batches over pipeline stages: DualPipe, DualPipeV, ZB1P or 1F1B, as the deployment says',
  run(module) {
    if (!declaresPipeline(module)) return module;
    const schedule = scheduleOfModel(module);
    const wrong = verifySchedule(schedule).filter((d) => d.severity === 'error');
    if (wrong.length > 0) throw new Error(new DiagnosticError(wrong).message);
    const others = module.schedules.filter((s) => s.name !== schedule.name);
    return { ...module, schedules: [...others, schedule] };
  },
};
