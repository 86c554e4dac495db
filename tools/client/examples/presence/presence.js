// What the server's presence stream says, as a table of users: net/control/openapi.json,
// /api/v1/presence. Knows no page.

const LEFT_MAX = 20;  // users that are offline and still shown

/** Users by name, and what happened to them. */
export class Presence {
  constructor() {
    /**
     * @type {Map<string, {user: string, state: string, sessions: number, generation: number,
     *                     sequence: number}>}
     */
    this.users = new Map();
    /** @type {Set<string>} those of them that are offline, the last that left at the end */
    this.left = new Set();
    this.isWhole = false;  // all of the snapshot is here
  }

  /** Forgets all: a snapshot follows. */
  begin() {
    this.users.clear();
    this.left.clear();
    this.isWhole = false;
  }

  /**
   * A user of the snapshot, or a change; false if more is known already.
   * @param {any} event
   */
  take(event) {
    const before = this.users.get(event.user);
    if (before && !isLater(event, before)) return false;
    const {user, generation, sequence} = event;
    const {state, sessions} = event.change === undefined
        ? event : after(event.change, before ?? {state: "offline", sessions: 0});
    this.users.set(user, {user, state, sessions, generation, sequence});
    this.left.delete(user);
    if (state === "offline") this.left.add(user);
    if (this.left.size > LEFT_MAX) this.#forgetOldest();
    return true;
  }

  #forgetOldest() {
    const [user] = this.left;
    this.left.delete(user);
    this.users.delete(user);
  }

  /** Online first, by name; then those that left, the last one first. */
  rows() {
    const here = [...this.users.values()].filter(({state}) => state !== "offline");
    here.sort((a, b) => a.user.localeCompare(b.user));
    return [...here, ...[...this.left].reverse().map((user) => this.users.get(user))];
  }
}

/** @param {any} a @param {any} b */
const isLater = (a, b) => a.generation > b.generation ||
    (a.generation === b.generation && a.sequence > b.sequence);

/** @param {string} change @param {{state: string, sessions: number}} before */
function after(change, {state, sessions}) {
  switch (change) {
    case "online": return {state: "online", sessions: 1};
    case "offline": return {state: "offline", sessions: 0};
    case "suspect": return {state: "suspect", sessions};
    case "well": return {state: "online", sessions};
    case "joined": return {state: "online", sessions: sessions + 1};
    case "left": return {state, sessions: Math.max(0, sessions - 1)};
    default: return {state: "online", sessions: Math.max(1, sessions)};  // replaced, refreshed
  }
}
