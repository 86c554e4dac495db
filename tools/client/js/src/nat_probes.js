// Finds out for how long the network of a connection bears silence, by side connections, and makes
// the connection beat within that. The connection itself is never used to try it.
//
//     welcome names the network --> remembered: it is gone by at once
//                               --> else, after a while: rounds of silences (nat_search.js), each
//                                   on a side connection (side.js); found: remembered, reported
//
// A failure counts only if the connection is alive at that moment, and has been since the silence
// began: it pings, and has an answer. That may be the first after an outage, and TCP takes as long
// again until it notices on the other one: so it pings once more then. Otherwise the device moved,
// or the server was away, and the sample is thrown away.
//
// Meanwhile the connection beats within what is known to be borne, so that it outlives the search.

import {Alarm} from "./environment.js";
import {LATE_MS} from "./heartbeat.js";
import {NatSearch, SILENCE_MIN_MS, intervalOf, silencesOf} from "./nat_search.js";
import {Side} from "./side.js";

/** @typedef {import("./link.js").Link} Link */
/** @typedef {import("./nat_search.js").Silences} Silences */
/**
 * @typedef {object} Owner
 * @property {import("../index.js").Environment} environment
 * @property {any} WebSocket
 * @property {{connectTimeoutMs: number, welcomeTimeoutMs: number,
 *             natMemory?: import("../index.js").NatMemory}} options
 * @property {(cause: string) => Promise<string | undefined>} getToken
 * @property {(type: string, detail: any) => void} tell
 */
/**
 * A silence that is tried. `side`: undefined while its token is waited for.
 * @typedef {object} Trial
 * @property {number} silenceMs
 * @property {Side | undefined} side
 * @property {Alarm} verdict when the connection is looked at
 */

/** After a welcome, until the first is begun: this to this, that a crowd does not come at once. */
const BEGIN_MS = [10_000, 60_000];
/** After a sample that does not count, doubled each time in a row, and spread by half. */
const AGAIN_MS = 30_000;
const AGAIN_MAX_MS = 600_000;
/** Side connections for one network, those included that did not count. */
const TRIES_MAX = 40;
const NETWORKS_MAX = 20;
/**
 * So many connections in a row that end so, each before it was an hour old: what is remembered may
 * be what they ended of. One may have moved.
 */
const LOSSES = ["silent", "close_1006"];
const LOSSES_MAX = 3;
const OLD_MS = 3_600_000;
const REMEMBERED_MS = 7 * 86_400_000;

/** A Map that forgets what was set first. */
class Recent extends Map {
  /** @param {any} key @param {any} value */
  set(key, value) {
    this.delete(key);
    if (this.size >= NETWORKS_MAX) this.delete(this.keys().next().value);
    return super.set(key, value);
  }
}

export class NatProbes {
  /** @param {Owner} owner */
  constructor(owner) {
    this.owner = owner;
    this.environment = owner.environment;
    /** @type {import("../index.js").NatMemory} */
    this.memory = owner.options.natMemory ?? new Recent();
    /** @type {Map<string, {search: NatSearch, tries: number}>} By network, while it is searched. */
    this.searches = new Recent();
    /** @type {Map<string, number>} Connections lost in a row, by network. */
    this.losses = new Recent();
    /** @type {Link | undefined} the connection whose network is searched */
    this.link = undefined;
    this.network = "";
    /** @type {Set<Trial>} */
    this.trials = new Set();
    /** Samples in a row that did not count. */
    this.voids = 0;
    this.alarm = new Alarm(this.environment, () => this.#go());
  }

  /**
   * The connection is open, and its server has said which network it comes from.
   * @param {Link} link
   * @param {any} welcome
   */
  welcomed(link, welcome) {
    this.stop();
    if (typeof welcome.nat?.network !== "string") return;
    this.link = link;
    this.network = welcome.nat.network;
    const known = this.#remembered();
    if (known) return this.#use(known);
    const {network, searches} = this;
    if (!searches.has(network)) {
      searches.set(network, {search: new NatSearch(silencesOf(welcome.nat)), tries: 0});
    }
    this.#bound();
    this.#goSoon();
  }

  /**
   * It has ended: what is tried says nothing any more.
   * @param {Link} link
   * @param {string} cause
   */
  lost(link, cause) {
    if (link !== this.link) return;
    this.stop();
    const isYoung = this.environment.now() - link.openedAt < OLD_MS;
    if (!LOSSES.includes(cause) || !isYoung) return void this.losses.delete(this.network);
    const losses = (this.losses.get(this.network) ?? 0) + 1;
    this.losses.set(this.network, losses % LOSSES_MAX);
    if (losses === LOSSES_MAX) this.#store((memory) => memory.delete(this.network));
  }

  /** The network may be another. */
  moved() {
    this.#end();
    if (this.link && this.searches.has(this.network)) this.#goSoon();
  }

  stop() {
    this.#end();
    this.link = undefined;
  }

  #end() {
    this.alarm.clear();
    for (const trial of [...this.trials]) this.#drop(trial);
  }

  /** @param {Trial} trial */
  #drop(trial) {
    this.trials.delete(trial);
    trial.verdict.clear();
    trial.side?.end();
  }

  // It may be the application's, and fail: then nothing is remembered.
  /** @param {(memory: import("../index.js").NatMemory) => any} act */
  #store(act) {
    try {
      return act(this.memory);
    } catch (error) {
      this.owner.tell("error", {message: `natMemory: ${error}`});
    }
  }

  #remembered() {
    const record = this.#store((memory) => memory.get(this.network));
    const age = Math.abs(this.environment.wallNow() - Number(record?.at));
    if (!(age < REMEMBERED_MS)) return undefined;
    return silencesOf({kept_ms: record?.keptMs, lost_ms: record?.lostMs});
  }

  // ------------------------------------------------------------------------------------ the search

  #bound() {
    const found = this.searches.get(this.network)?.search.found;
    if (found) this.link?.bound(intervalOf(found.keptMs));
  }

  #goSoon() {
    const [least, most] = BEGIN_MS;
    this.alarm.in(least + (most - least) * this.environment.random());
  }

  #go() {
    const state = this.searches.get(this.network);
    if (!this.link || !state) return;
    if (state.search.isDone) return this.#finish(state);
    const {round} = state.search;
    for (const trial of [...this.trials]) {
      if (!round.includes(trial.silenceMs)) this.#drop(trial);
    }
    const tried = new Set([...this.trials].map(({silenceMs}) => silenceMs));
    for (const silenceMs of round.filter((each) => !tried.has(each))) {
      if (++state.tries > TRIES_MAX) return this.#giveUp(state.search.found);
      this.#try(silenceMs);
    }
  }

  /** @param {number} silenceMs */
  async #try(silenceMs) {
    const verdict = new Alarm(this.environment, () => {});
    /** @type {Trial} */
    const trial = {silenceMs, side: undefined, verdict};
    this.trials.add(trial);
    let token;
    try {
      token = await this.owner.getToken("probe");
    } catch {
      return this.#ended(trial, "busy");
    }
    if (!this.trials.has(trial) || !this.link) return;
    const {environment, WebSocket, options} = this.owner;
    trial.side = new Side({
      environment, WebSocket, silenceMs,
      url: this.link.url,
      hello: JSON.stringify({type: "hello", probe: true, token}),
      greetingMs: options.connectTimeoutMs + options.welcomeTimeoutMs,
      answerMs: 2 * this.link.heartbeat.waitMs(),
    }, (outcome) => this.#ended(trial, outcome));
  }

  /**
   * @param {Trial} trial
   * @param {import("./side.js").Outcome | "lost"} outcome
   * @returns {void}
   */
  #ended(trial, outcome) {
    if (!this.trials.has(trial)) return;
    if (outcome === "silent") return this.#ask(trial, () => this.#askAgain(trial));
    if (outcome === "broken") return this.#ask(trial, () => this.#ended(trial, "lost"));
    this.#drop(trial);
    const found = this.searches.get(this.network)?.search;
    if (outcome === "unsupported") return this.#giveUp(found?.found);
    if (outcome === "kept" || outcome === "lost") {
      this.voids = 0;
      found?.note(trial.silenceMs, outcome === "kept");
      this.#bound();
      return this.#go();
    }
    const wait = Math.min(AGAIN_MAX_MS, AGAIN_MS * 2 ** this.voids++);
    this.alarm.in(wait * (0.5 + 0.5 * this.environment.random()));
  }

  // Whether the connection has an answer to a ping that is sent now.
  /**
   * @param {Trial} trial
   * @param {() => void} isAlive
   * @returns {void}
   */
  #ask(trial, isAlive) {
    const {link} = this;
    const seq = link?.ask() ?? 0;
    if (seq === 0 || !link) return this.#ended(trial, "void");
    trial.verdict.action = (late) => {
      // A page that was frozen has not read yet what has come.
      const isKnown = late <= LATE_MS && link === this.link && link.answeredSeq >= seq;
      if (isKnown) return isAlive();
      this.#ended(trial, "void");
    };
    trial.verdict.in(link.heartbeat.waitMs());
  }

  /** @param {Trial} trial */
  #askAgain(trial) {
    const woke = trial.side?.wokeAt ?? 0;
    trial.verdict.action = () => this.#ask(trial, () => this.#ended(trial, "lost"));
    trial.verdict.in(this.environment.now() - woke);
  }

  /** @param {{search: NatSearch, tries: number}} state */
  #finish({search, tries}) {
    const {keptMs, lostMs} = search.found;
    this.#end();
    this.searches.delete(this.network);
    const record = {keptMs, lostMs, at: this.environment.wallNow()};
    this.#store((memory) => memory.set(this.network, record));
    this.#use(search.found);
    this.owner.tell("nat", {network: this.network, keptMs, lostMs, probes: tries});
  }

  /** @param {Silences | undefined} found what is known by now, by which this connection goes */
  #giveUp(found) {
    this.#end();
    this.searches.delete(this.network);
    if (found && found.keptMs > SILENCE_MIN_MS) return this.#use(found);
    this.link?.bound(Infinity);
  }

  // The connection beats within it, and its server is told, for those that come next.
  /** @param {Silences} found */
  #use({keptMs, lostMs}) {
    const {link} = this;
    if (!link) return;
    link.bound(intervalOf(keptMs));
    const nat = lostMs === 0 ? {kept_ms: keptMs} : {kept_ms: keptMs, lost_ms: lostMs};
    link.greetAgain(JSON.stringify({type: "hello", nat})).catch(() => {});
  }
}
