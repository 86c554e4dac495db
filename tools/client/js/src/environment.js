// What the client needs of where it runs: clocks, timers, chance, and word of a page's life.

/** @typedef {import("../index.js").Environment} Environment */
/** @typedef {import("../index.js").LifecycleEvent} LifecycleEvent */

const TIMER_MAX_MS = 2 ** 31 - 1;

/** @returns {Environment} a browser's, a worker's, or Node's */
export function defaultEnvironment() {
  return {
    now: () => performance.now(),
    wallNow: () => Date.now(),
    random: () => Math.random(),
    setTimeout: (action, ms) => setTimeout(action, ms),
    clearTimeout: (timer) => clearTimeout(timer),
    isOnline: () => globalThis.navigator?.onLine !== false,
    watch: watchPage,
  };
}

/**
 * Calls back when the page is seen again or thawed, and when its network comes, goes or changes.
 * @param {(event: LifecycleEvent) => void} tell
 * @returns {() => void} ends it
 */
function watchPage(tell) {
  /** @type {[EventTarget | undefined, string, () => void][]} */
  const listeners = [
    [globalThis.document, "visibilitychange", () => {
      if (document.visibilityState === "visible") tell("wake");
    }],
    [globalThis.document, "resume", () => tell("wake")],
    // Only in windows and workers: Node's globalThis is no EventTarget.
    [hasEvents(globalThis) ? globalThis : undefined, "pageshow", () => tell("wake")],
    [hasEvents(globalThis) ? globalThis : undefined, "online", () => tell("online")],
    [hasEvents(globalThis) ? globalThis : undefined, "offline", () => tell("offline")],
    [/** @type {any} */ (globalThis.navigator)?.connection, "change", () => tell("network")],
  ];
  for (const [target, name, action] of listeners) target?.addEventListener?.(name, action);
  return () => {
    for (const [target, name, action] of listeners) target?.removeEventListener?.(name, action);
  };
}

/** @param {any} target */
const hasEvents = (target) => typeof target.addEventListener === "function";

/** One instant at which something is due; it may be moved. */
export class Alarm {
  /**
   * @param {Environment} environment
   * @param {(lateMs: number) => void} action
   */
  constructor(environment, action) {
    this.environment = environment;
    this.action = action;
    this.at = Infinity;
    /** @type {unknown} */
    this.timer = undefined;
  }

  /** @param {number} at of the clock environment.now(); Infinity: never */
  set(at) {
    if (at === this.at && this.timer !== undefined) return;
    this.clear();
    this.at = at;
    if (at === Infinity) return;
    const wait = Math.max(0, Math.ceil(at - this.environment.now()));
    this.timer = this.environment.setTimeout(() => {
      this.timer = undefined;
      this.check();
    }, Math.min(wait, TIMER_MAX_MS));
  }

  /** @param {number} ms */
  in(ms) {
    this.set(this.environment.now() + ms);
  }

  clear() {
    if (this.timer !== undefined) this.environment.clearTimeout(this.timer);
    this.timer = undefined;
    this.at = Infinity;
  }

  /** Does what is due, if it is due: for those who know that a timer may come late. */
  check() {
    const {at} = this;
    const late = this.environment.now() - at;
    if (late < 0) {  // a timer of an engine may come a little early
      this.at = Infinity;
      return this.set(at);
    }
    this.clear();
    this.action(late);
  }
}

/** A time within which something should have come; where its end comes late, it is given anew. */
export class Patience {
  /**
   * @param {Environment} environment
   * @param {() => void} over
   * @param {number} lateMs
   */
  constructor(environment, over, lateMs) {
    this.ms = 0;
    this.renewals = 0;
    this.alarm = new Alarm(environment, (late) => {
      if (late > lateMs && this.renewals < 3) {
        ++this.renewals;
        this.alarm.in(this.ms);
      } else {
        over();
      }
    });
  }

  /** @param {number} ms */
  begin(ms) {
    this.ms = ms;
    this.renewals = 0;
    this.alarm.in(ms);
  }

  end() {
    this.alarm.clear();
  }
}
