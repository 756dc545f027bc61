/** Runs tasks in order, at most `width` at once. Urgent ones go first: a person waits for them. */
export function createQueue(width) {
  const urgent = [];
  const others = [];
  let running = 0;

  async function runNext() {
    const task = running < width ? (urgent.shift() ?? others.shift()) : undefined;
    if (task === undefined) return;
    running += 1;
    try {
      await task();
    } finally {
      running -= 1;
      runNext();
    }
  }

  return (task, isUrgent = false) => {
    (isUrgent ? urgent : others).push(task);
    runNext();
  };
}

/** For all requests about many photos, so that a hundred of them do not crowd out other users. */
export const enqueueRequest = createQueue(3);
