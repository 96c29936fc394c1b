// Reading and writing checkpoints in the safetensors format. Imports nothing but Node's own modules.
export { FormatError, type FormatProblem } from './safetensors-error.ts';
export { elementBytes, type SafetensorsDType, type TensorInfo } from './safetensors-header.ts';
export { SafetensorsFile } from './safetensors-file.ts';
export {
  Checkpoint,
  openCheckpoint,
  type CheckpointOptions,
  type CheckpointTensor,
} from './safetensors-checkpoint.ts';
export { writeSafetensors, type TensorToWrite } from './safetensors-write.ts';
