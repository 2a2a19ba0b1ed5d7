// The four questions, each with its answer.

import { h } from "./dom.js";
import { facts } from "./parts.js";
import { isStale, now, silence, state } from "./store.js";
import { count, duration, many, plain, price, seconds } from "./words.js";

const TOP = 4;

export function answers() {
  const status = state.status;
  return h(
    "section",
    { class: "answers", "aria-label": "Four questions" },
    card("alive", "Is it alive?", alive(status)),
    card("flow", "Is work flowing?", flow(status)),
    card("why", "Why is work waiting?", why(status)),
    card("cost", "What does it cost?", cost(status)),
  );
}

function card(id, question, answer) {
  return h(
    "article",
    { id: `answer-${id}`, class: `card ${answer.tone}` },
    h("h2", null, question),
    h(
      "p",
      { class: "big" },
      answer.big,
      answer.unit && h("span", { class: "unit" }, ` ${answer.unit}`),
    ),
    answer.content,
  );
}

function alive(status) {
  const dispatcher = status.dispatcher;
  const crashes = Object.entries(status.actor_failures);
  const lease = dispatcher ? dispatcher.lease_seconds - silence() : null;
  const content = [
    status.obstacles.length
      ? h(
          "ul",
          { class: "obstacles" },
          status.obstacles.map((words) => h("li", { key: words }, words)),
        )
      : "",
    facts([
      ["Lease", dispatcher && (lease > 0 ? `${duration(lease)} left` : "over")],
      ["API", dispatcher && heard(dispatcher.api_heard_at)],
      ["Scheduler", dispatcher && heard(dispatcher.scheduler_heard_at)],
      [
        "Actors",
        crashes.length
          ? `restarted: ${crashes.map(([name, times]) => `${name} ${count(times)}`).join(", ")}`
          : "none restarted",
      ],
    ]),
  ];
  if (isStale())
    return { tone: "bad", big: "Not known", unit: "nothing was heard lately", content };
  const tone = status.obstacles.length ? (dispatcher ? "warn" : "bad") : "good";
  const [big, unit] = status.obstacles.length
    ? ["Not quite", many(status.obstacles.length, "obstacle")]
    : ["Yes", "and at work"];
  return { tone, big, unit, content };
}

function heard(at) {
  return at ? `heard ${duration(now() - seconds(at))} ago` : "never heard";
}

function flow(status) {
  const work = status.work;
  if (!work) return unknown();
  const lately = work.lately;
  const waits = work.waiting + work.queued;
  const ended = Object.entries(work.ended).map(([state, number]) => `${count(number)} ${state}`);
  const isStuck = waits > 0 && work.running === 0 && lately.started === 0 && lately.seconds > 240;
  const content = facts([
    ["Running", count(work.running)],
    ["Claimed", count(work.waiting)],
    ["In the queue", work.queued >= 1000 ? "1,000 or more" : count(work.queued)],
    ["Longest wait", work.oldest_wait_seconds === null ? "none" : longest(status)],
    ["Ended so far", ended.join(", ") || "none"],
  ]);
  if (isStuck) return { tone: "warn", big: "Nothing runs", content };
  if (!lately.seconds) return { tone: "calm", big: count(work.running), unit: "running", content };
  return {
    tone: work.running || lately.started ? "good" : "calm",
    big: `${count(lately.started)} started`,
    unit: `and ${count(lately.ended)} ended in ${duration(lately.seconds)}`,
    content,
  };
}

/** How long the longest wait is, and for what. */
function longest(status) {
  const waiting = status.groups.filter((group) => group.token !== "running" && group.oldest_at);
  const oldest = waiting.reduce((one, other) =>
    seconds(other.oldest_at) < seconds(one.oldest_at) ? other : one,
  );
  return `${duration(now() - seconds(oldest.oldest_at))} (${plain(oldest.token)})`;
}

function why(status) {
  if (!status.work) return unknown();
  const tokens = Object.entries(status.work.tokens);
  const waits = tokens.reduce((sum, [, number]) => sum + number, 0);
  if (!waits) return { tone: "good", big: "Nothing waits", content: "" };
  const tiers = new Map(status.groups.map((group) => [group.token, group.tier]));
  const worst = ["never", "hold", "limit"].find((tier) =>
    tokens.some(([token]) => tiers.get(token) === tier),
  );
  const shown = tokens.slice(0, TOP);
  const rest = tokens.slice(TOP).reduce((sum, [, number]) => sum + number, 0);
  const bars = shown.map(([token, number]) =>
    h(
      "li",
      {
        key: token,
        class: tiers.get(token) || "waiting",
        "--share": `${(100 * number) / shown[0][1]}%`,
      },
      h("span", { class: "name" }, plain(token)),
      h("span", { class: "number" }, count(number)),
    ),
  );
  return {
    tone: worst === "never" ? "bad" : worst ? "warn" : "calm",
    big: count(waits),
    unit: waits === 1 ? "waits" : "wait",
    content: h(
      "ul",
      { class: "bars" },
      bars,
      rest ? h("li", { class: "rest" }, `and ${count(rest)} for other reasons`) : "",
    ),
  };
}

function cost(status) {
  const limits = status.limits;
  if (!limits)
    return { tone: "calm", big: "Nothing", unit: "no nodes are booted here", content: "" };
  const most = limits.max_total_price;
  const here = status.sizes
    .map((each) => [each.size, each.here + each.booting + each.leaving])
    .filter(([, number]) => number);
  const trouble = limits.brake ? "the brake is on" : limits.stale;
  return {
    tone: trouble ? "warn" : "calm",
    big: price(limits.price),
    unit: most ? `of ${price(most)} per hour` : "per hour",
    content: [
      facts([
        ["Nodes", `${count(status.nodes.length)} of ${many(status.node_quota, "node")} allowed`],
        ["By size", here.map(([size, number]) => `${count(number)} ${size}`).join(", ") || "none"],
        [
          "Wanted",
          status.nodes_wish ? many(status.nodes_wish, "more node", "more nodes") : "no more",
        ],
        ["Not booting", trouble],
      ]),
    ],
  };
}

function unknown() {
  return {
    tone: "bad",
    big: "Not known",
    content: h("p", { class: "muted" }, "The dispatcher's actors are being started."),
  };
}
