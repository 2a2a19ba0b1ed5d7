// Everything about one container: why it waits, what helps, its attempts, what was said when, and its log.

import { h } from "./dom.js";
import { badge, containerLink, facts, note, numbers, section, time, tone } from "./parts.js";
import { now, state } from "./store.js";
import { table } from "./table.js";
import { bytes, count, duration, plain, seconds } from "./words.js";

const ATTEMPTS = [
  ["Container"],
  ["Attempt", "number"],
  ["State"],
  ["Created"],
  ["Started"],
  ["Ended"],
  ["Node"],
  ["Exit", "number"],
  ["How it ended", "wide"],
];

const KNOBS = {
  owner: "its owner: the request has to change",
  operator: "an operator of this node manager",
  site: "whoever runs the batch scheduler or the cloud",
  nobody: "nobody: it ends by itself",
};

export function story() {
  const shown = state.story;
  const told = shown.told;
  const current = told?.attempts.at(-1);
  return [
    h("p", { key: "back", class: "crumbs" }, h("a", { href: "#/" }, "All containers")),
    h("h1", { key: "title", class: "uuid" }, shown.uuid),
    shown.trouble
      ? note(shown.missing ? shown.trouble : `The API cannot be asked: ${shown.trouble}`, "warn")
      : "",
    told
      ? [summary(told, current), waits(told, current), attempts(told), changes(told), log(shown)]
      : shown.trouble
        ? ""
        : h("p", { class: "muted" }, "Asking the API\u2026"),
  ];
}

function summary(told, current) {
  const isCurrent = current.uuid === state.story.uuid;
  return h(
    "div",
    { key: "summary", class: "summary" },
    facts([
      ["State", badge(current.state)],
      ["Request", told.name || ""],
      ["Request UUID", told.request && h("span", { class: "uuid" }, told.request)],
      ["Request state", told.request_state],
      [
        "Priority",
        count(told.priority > 1000 ? Math.ceil(told.priority / 2 ** 50) : told.priority),
      ],
      ["Attempt", count(current.number)],
      ["Current attempt", isCurrent ? "" : containerLink(current.uuid)],
      ["Runs on", current.node],
      [
        "Failed before",
        current.temp_fails ? `${count(current.temp_fails)} in a row by no fault of its own` : "",
      ],
      ["Not before", time(current.run_after, now())],
      ["Held", current.hold ? "until an operator releases it" : ""],
      ["Output", current.output],
    ]),
  );
}

function waits(told, current) {
  const [first, ...others] = told.reasons;
  if (!first) {
    const words =
      {
        Queued: "Nobody has said yet why it waits.",
        Locked: "It is about to start.",
        Running: "It runs.",
      }[current.state] ?? `It is over: ${current.state}.`;
    return section(
      "why",
      "Why it waits",
      note(words, current.state === "Running" || current.state === "Complete" ? "good" : "calm"),
    );
  }
  return section(
    "why",
    "Why it waits",
    reasonCard(first),
    others.length
      ? h(
          "details",
          null,
          h("summary", null, `${count(others.length)} more dispatchers say`),
          others.map(reasonCard),
        )
      : "",
  );
}

function reasonCard(reason) {
  const looked = reason.last_checked && duration(now() - seconds(reason.last_checked));
  const due = reason.next_attempt_at && seconds(reason.next_attempt_at) - now();
  return h(
    "article",
    { class: `reason ${tone(reason.tier)}`, key: reason.dispatcher },
    h("p", { class: "lead" }, badge(plain(reason.token), tone(reason.tier)), " ", reason.sentence),
    numbers(reason.facts),
    reason.advice
      ? h("p", { class: "advice" }, h("strong", null, "What helps: "), reason.advice)
      : "",
    facts([
      ["Who can end it", KNOBS[reason.knob]],
      [
        "Next attempt",
        due &&
          (due > 0 ? [`in ${duration(due)}, at `, time(reason.next_attempt_at, now())] : "due"),
      ],
      ["Since", time(reason.since, now())],
      [
        "Said by",
        (reason.dispatcher_name || reason.dispatcher) +
          (looked ? `, who looked ${looked} ago` : ""),
      ],
    ]),
  );
}

function attempts(told) {
  const rows = [...told.attempts].reverse().map((each) => ({
    key: each.uuid,
    name: each.uuid === state.story.uuid ? "current" : "",
    cells: [
      each.uuid === state.story.uuid
        ? h("span", { class: "uuid" }, each.uuid)
        : containerLink(each.uuid),
      count(each.number),
      badge(each.state),
      time(each.created_at, now()),
      time(each.started_at, now()),
      time(each.finished_at, now()),
      each.node,
      each.exit_code === null ? "" : String(each.exit_code),
      each.error ? [each.error, numbers(each.facts)] : "",
    ],
  }));
  return section(
    "attempts",
    rows.length === 1 ? "One attempt" : `${rows.length} attempts, newest first`,
    table("Attempts", ATTEMPTS, rows),
  );
}

/** What was said and what happened, in one line of time. */
function changes(told) {
  const numbers = new Map(told.attempts.map((each) => [each.uuid, each.number]));
  const said = told.history.map((change) => ({
    at: change.at,
    attempt: numbers.get(change.container),
    tone: change.reason ? tone(change.reason.tier) : "calm",
    words: change.reason ? reasonWords(change.reason) : "no reason to wait any more",
  }));
  const moments = [...told.attempts.flatMap(lifeOf), ...said].filter((each) => each.at);
  moments.sort((one, other) => seconds(other.at) - seconds(one.at));
  const items = moments.map((moment, index) =>
    h(
      "li",
      { key: `${moment.at} ${moments.length - index}`, class: moment.tone },
      time(moment.at, now()),
      " ",
      moment.words,
      told.attempts.length > 1 ? h("small", null, ` attempt ${moment.attempt ?? "?"}`) : "",
    ),
  );
  return section("changes", "What happened, newest first", h("ol", { class: "timeline" }, items));
}

function reasonWords(reason) {
  return [badge(plain(reason.token), tone(reason.tier)), " ", reason.sentence];
}

function lifeOf(attempt) {
  const { number, node, state, error } = attempt;
  const where = node ? ` on ${node}` : "";
  const how = error ? `: ${error}` : "";
  return [
    { at: attempt.created_at, attempt: number, tone: "calm", words: "queued" },
    { at: attempt.started_at, attempt: number, tone: "good", words: `its command started${where}` },
    { at: attempt.finished_at, attempt: number, tone: tone(state), words: [badge(state), how] },
  ];
}

function log(shown) {
  const text = shown.log?.text ?? "";
  const title = shown.log
    ? `The end of its log (at most ${bytes(shown.log.limit_bytes)})`
    : "The end of its log";
  let content = h("p", { class: "muted" }, "Fetching\u2026");
  if (shown.logTrouble) content = note(`There is no log to show: ${shown.logTrouble}`);
  else if (text) content = h("pre", { tabindex: "0", "aria-label": "Log" }, text);
  else if (shown.log) content = note("It has written nothing yet.");
  return section("log", title, content);
}
