/** Runs tasks in order, at most `width` at once, so that a hundred photos do not crowd out other users. */
export function createQueue(width) {
  const waiting = [];
  let running = 0;

  async function runNext() {
    if (running === width || waiting.length === 0) return;
    running += 1;
    try {
      await waiting.shift()();
    } finally {
      running -= 1;
      runNext();
    }
  }

  return (task) => {
    waiting.push(task);
    runNext();
  };
}
