// Numbered steps with their progress and elapsed time. On a terminal the current line is rewritten; elsewhere a line
// is written when a step begins, every ten seconds, and when it ends.

const QUIET_MS = 10_000;

export class Progress {
  #total;
  #tty = Boolean(process.stderr.isTTY);
  #start = performance.now();

  /** @param {number} total Steps in all. */
  constructor(total) {
    this.#total = total;
  }

  /**
   * Runs one step; `note(text)` shows how far it is.
   * @template T
   * @param {number} number
   * @param {string} title
   * @param {(note: (text: string) => void) => Promise<T>} body
   * @returns {Promise<T>}
   */
  async step(number, title, body) {
    const label = `[${number}/${this.#total}] ${title}`;
    const begun = performance.now();
    let shown = begun;
    this.#write(label, false);
    const note = (/** @type {string} */ text) => {
      const now = performance.now();
      if (!this.#tty && now - shown < QUIET_MS) return;
      shown = now;
      this.#write(`${label}: ${text} (${seconds(begun)})`, false);
    };
    const result = await body(note);
    this.#write(`${label} (${seconds(begun)})`, true);
    return result;
  }

  /** @param {string} text */
  done(text) {
    this.#write(`${text} (${seconds(this.#start)})`, true);
  }

  /**
   * @param {string} line
   * @param {boolean} ended
   */
  #write(line, ended) {
    if (!this.#tty) process.stderr.write(`mlxk ${line}${ended ? '' : ' ...'}\n`);
    else process.stderr.write(`\r\u001b[Kmlxk ${line}${ended ? '\n' : ''}`);
  }
}

/** @param {number} since */
function seconds(since) {
  return `${((performance.now() - since) / 1000).toFixed(1)} s`;
}
