// A client of Pulsewheel for browsers and Node: see README.md, and index.d.ts for its types.
export {PulseClient, PulseError, PulseEvent} from "./src/client.js";
export {DEFAULT_POLICIES} from "./src/policy.js";
