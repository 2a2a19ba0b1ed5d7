// What the page knows, and how it keeps up: one state, changed here and drawn by `main.js` whenever it changes.

import { Refused, read, tell } from "./server.js";
import { seconds } from "./words.js";

const STALE_SECONDS = 25; // an event comes every 10 s at least
const POLL_SECONDS = 3; // while there are no events
const STORY_SECONDS = 5;
const PLOT_SECONDS = { hour: 10, day: 60 };
const DISPATCHERS_SECONDS = 10;
const ROWS = 50;

export const state = {
  session: null, // what whoever looks may do; null: not asked yet
  status: null, // status.json
  trouble: "", // why there is nothing newer
  heardAt: 0, // when something came last, by this browser's clock, in seconds
  isLive: false, // events come
  skew: 0, // the server's clock minus ours
  groups: new Map(), // rows of the groups that are open, by id
  span: "hour",
  history: { hour: null, day: null },
  dispatchers: null,
  story: null, // { uuid, told, log, trouble, logTrouble }
  allNodes: false,
};

let draw = () => {};
let announce = () => {};
const asked = new Map(); // when what was asked for last

export function begin(onChange, onWords) {
  draw = onChange;
  announce = onWords;
}

/** Unix seconds by the server's clock. */
export function now() {
  return Date.now() / 1000 + state.skew;
}

export function silence() {
  return Date.now() / 1000 - state.heardAt;
}

export function isStale() {
  return state.status !== null && (state.trouble !== "" || silence() > STALE_SECONDS);
}

// Who looks.

export async function askSession() {
  state.session = await read("session.json");
  draw();
  return state.session.may_read;
}

export async function logIn(token) {
  await tell("login", { token });
  if (await askSession()) connect();
}

export async function logOut() {
  await tell("logout");
  stream?.close();
  stream = null;
  Object.assign(state, {
    status: null,
    story: null,
    dispatchers: null,
    history: { hour: null, day: null },
  });
  state.groups.clear();
  await askSession();
}

// Keeping up.

let stream = null;

export function connect() {
  stream?.close();
  stream = new EventSource("events");
  stream.onopen = () => {
    state.isLive = true;
    draw();
  };
  stream.addEventListener("look", () => refresh());
  stream.addEventListener("trouble", (event) => {
    state.trouble = JSON.parse(event.data).error;
    draw();
  });
  stream.onerror = () => {
    state.isLive = false;
    draw();
  };
  refresh();
}

/** Every second: what is due although no event came. */
export function tick() {
  if (!state.session?.may_read) return;
  if (stream?.readyState === EventSource.CLOSED && isDue("connect", POLL_SECONDS)) connect();
  else if (!state.isLive && isDue("status", POLL_SECONDS)) refresh();
}

export async function refresh() {
  asked.set("status", Date.now() / 1000);
  await attempt(async () => {
    const status = await read("status.json");
    state.heardAt = Date.now() / 1000;
    state.skew = seconds(status.taken_at) - state.heardAt;
    state.status = status;
    state.trouble = "";
  });
  await Promise.all([...state.groups.keys()].map((id) => readRows(id)));
  await keepUp();
}

/** What the view that is shown needs besides. */
export async function keepUp() {
  if (!state.session?.may_read) return;
  const needs = [];
  if (isDue(`history ${state.span}`, PLOT_SECONDS[state.span])) needs.push(readHistory());
  if (isDue("dispatchers", DISPATCHERS_SECONDS)) needs.push(readDispatchers());
  if (state.story && isDue(`story ${state.story.uuid}`, STORY_SECONDS))
    needs.push(readStory(state.story));
  await Promise.all(needs);
  draw();
}

function isDue(what, every) {
  const at = Date.now() / 1000;
  // A little early rather than one event late.
  if (at - (asked.get(what) ?? 0) < every - 0.5) return false;
  asked.set(what, at);
  return true;
}

async function attempt(work) {
  try {
    await work();
    return true;
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    if (error.status === 401 || error.status === 403) await askSession().catch(() => {});
    else state.trouble = error.message;
    return false;
  } finally {
    draw();
  }
}

// Pieces.

export async function openGroup(id) {
  state.groups.set(id, { items: null, wanted: ROWS, trouble: "" });
  draw();
  await readRows(id);
}

export function closeGroup(id) {
  state.groups.delete(id);
  draw();
}

export async function moreRows(id) {
  state.groups.get(id).wanted += ROWS;
  await readRows(id);
}

async function readRows(id) {
  const group = state.groups.get(id);
  if (!state.status?.groups.some((each) => each.id === id)) {
    state.groups.delete(id); // nobody waits for that any more
    return;
  }
  try {
    const items = [];
    let more = true;
    while (more && items.length < group.wanted) {
      const part = await read("containers.json", {
        group: id,
        offset: items.length,
        limit: group.wanted - items.length,
      });
      items.push(...part.items);
      more = part.items.length > 0 && items.length < part.containers;
    }
    Object.assign(group, { items, trouble: "" });
  } catch (error) {
    group.trouble = error.message;
  }
  draw();
}

async function readHistory() {
  const span = state.span;
  try {
    state.history[span] = await read("history.json", { span });
  } catch {
    // The plots stay as they are; that there is trouble is said elsewhere.
  }
}

export async function chooseSpan(span) {
  state.span = span;
  draw();
  await keepUp();
}

async function readDispatchers() {
  try {
    state.dispatchers = { ...(await read("dispatchers.json")), trouble: "" };
  } catch (error) {
    state.dispatchers = { items: [], ...state.dispatchers, trouble: error.message };
  }
}

export async function openStory(uuid) {
  if (state.story?.uuid === uuid) return;
  state.story = uuid ? { uuid, told: null, log: null, trouble: "", logTrouble: "" } : null;
  draw();
  if (uuid) await keepUp();
}

async function readStory(story) {
  await Promise.all([
    read("story.json", { uuid: story.uuid }).then(
      (told) => Object.assign(story, { told, trouble: "" }),
      (error) => Object.assign(story, { trouble: error.message, missing: error.status === 404 }),
    ),
  ]);
  const current = story.told?.attempts.at(-1)?.uuid ?? story.uuid;
  const log =
    story.told && story.told.attempts.some((each) => each.uuid === story.uuid)
      ? story.uuid
      : current;
  await read("log.json", { uuid: log }).then(
    (told) => Object.assign(story, { log: told, logTrouble: "" }),
    (error) => Object.assign(story, { logTrouble: error.message }),
  );
}

// Operators' words.

export async function say(path, parameters, words) {
  try {
    await tell(path, parameters);
    announce(words, "good");
  } catch (error) {
    if (error.status === 401) await askSession().catch(() => {});
    announce(`Not done: ${error.message}`, "bad");
  }
  await refresh();
}
