// Ctrl-C: what is half done goes away, then the process dies of the signal, so that shells and make see why.
// While nothing is half done there is no handler, and the system ends even a long computation at once.
const cleanups = new Set<() => void>();
const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

const handle = (signal: NodeJS.Signals): void => {
  for (const cleanup of [...cleanups].reverse()) {
    try {
      cleanup();
    } catch {
      // The others still have their turn.
    }
  }
  for (const s of signals) process.removeListener(s, handle);
  process.kill(process.pid, signal);
};

/** Runs `cleanup` if the process is interrupted before the returned function is called. */
export function onInterrupt(cleanup: () => void): () => void {
  if (cleanups.size === 0) for (const s of signals) process.on(s, handle);
  cleanups.add(cleanup);
  return () => {
    cleanups.delete(cleanup);
    if (cleanups.size === 0) for (const s of signals) process.removeListener(s, handle);
  };
}
