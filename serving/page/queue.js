/** Runs tasks in the order they came, at most `width` at once: a hundred photos must not crowd out other users. */
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
