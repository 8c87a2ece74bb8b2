// The page of a document: /?doc=notes&name=ann. The text is a Y.Text, the carets and names are awareness states; y-websocket
// carries both and reconnects by itself.
import { WebsocketProvider } from "y-websocket";
import * as Y from "yjs";

const COLOURS = ["#b8452f", "#2c6fbb", "#7a4fa3", "#2e7d4f", "#a3662a", "#b0357c", "#0f7c8a", "#5b6470"];

const params = new URLSearchParams(location.search);
const name = params.get("doc") || "notes";
const element = (id) => document.getElementById(id);
const area = element("text");

const ydoc = new Y.Doc();
const ytext = ydoc.getText("text");
const server = `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/parties/document`;
const provider = new WebsocketProvider(server, encodeURIComponent(name), ydoc);
const awareness = provider.awareness;
const colour = COLOURS[ydoc.clientID % COLOURS.length];

element("title").textContent = document.title = name;
element("name").value = params.get("name") || sessionStorage.getItem("name") || `guest-${ydoc.clientID % 1000}`;

// -- the text ---------------------------------------------------------------------------------------------------------------------

let shown = ""; // what the area showed last: what differs from it was typed

const isHigh = (text, at) => at >= 0 && (text.charCodeAt(at) & 0xfc00) === 0xd800; // the first half of a character of two

/** What was typed, as one replacement. */
function difference(before, after) {
  const shorter = Math.min(before.length, after.length);
  let start = 0;
  while (start < shorter && before[start] === after[start]) start++;
  if (isHigh(before, start - 1)) start--;
  let end = 0;
  while (end < shorter - start && before.at(-1 - end) === after.at(-1 - end)) end++;
  if (end && isHigh(before, before.length - end - 1)) end--;
  return { start, removed: before.length - start - end, inserted: after.slice(start, after.length - end) };
}

area.addEventListener("input", () => {
  const { start, removed, inserted } = difference(shown, area.value);
  shown = area.value;
  ydoc.transact(() => {
    ytext.delete(start, removed);
    ytext.insert(start, inserted);
  }, area);
  tellCaret();
  show();
});

const fixed = (index) => Y.createRelativePositionFromTypeIndex(ytext, index);
const indexOf = (position) => Y.createAbsolutePositionFromRelativePosition(position, ydoc)?.index ?? 0;

// Before others' changes the selection is tied to its characters, after them it is where these are.
let selection = [];
ydoc.on("beforeTransaction", (transaction) => {
  if (transaction.origin !== area) selection = [fixed(area.selectionStart), fixed(area.selectionEnd), area.selectionDirection];
});
ytext.observe((event) => {
  if (event.transaction.origin === area) return;
  const top = area.scrollTop;
  shown = area.value = ytext.toString();
  const [start, end, direction] = selection;
  area.setSelectionRange(indexOf(start), indexOf(end), direction);
  area.scrollTop = top;
  show();
});

// -- who is here, and where -------------------------------------------------------------------------------------------------------

function tellName() {
  sessionStorage.setItem("name", element("name").value);
  awareness.setLocalStateField("user", { name: element("name").value.trim() || "somebody", colour });
}

function tellCaret() {
  const isHere = document.activeElement === area;
  const [from, to] = [area.selectionStart, area.selectionEnd];
  const [anchor, head] = area.selectionDirection === "backward" ? [to, from] : [from, to];
  awareness.setLocalStateField("caret", isHere ? { anchor: fixed(anchor), head: fixed(head) } : null);
}

/** The others' carets and selections, as ranges of the text. */
function carets() {
  const found = [];
  for (const [client, { user, caret }] of awareness.getStates()) {
    if (client === ydoc.clientID || !user || !caret) continue;
    const [anchor, head] = [caret.anchor, caret.head].map((json) => indexOf(Y.createRelativePositionFromJSON(json)));
    found.push({ user, head, from: Math.min(anchor, head), to: Math.max(anchor, head) });
  }
  return found;
}

/** Behind the area lies the same text, invisible but for carets and selections: so they stand where the letters stand. */
function showMarks() {
  const others = carets();
  const cuts = [...new Set([0, shown.length, ...others.flatMap(({ from, to }) => [from, to])])].sort((a, b) => a - b);
  const marks = [];
  cuts.forEach((cut, number) => {
    for (const { user } of others.filter(({ head }) => head === cut)) marks.push(caretOf(user));
    const next = cuts[number + 1];
    if (next === undefined) return;
    const piece = document.createElement("span");
    piece.textContent = shown.slice(cut, next);
    const owner = others.find(({ from, to }) => from <= cut && next <= to);
    if (owner) piece.className = "selected";
    if (owner) piece.style.setProperty("--colour", owner.user.colour);
    marks.push(piece);
  });
  element("marks").replaceChildren(...marks, "\u200b");
  element("marks").scrollTop = area.scrollTop;
}

function caretOf(user) {
  const caret = document.createElement("span");
  caret.className = "caret";
  caret.style.setProperty("--colour", user.colour);
  caret.append(Object.assign(document.createElement("b"), { textContent: user.name }));
  return caret;
}

function showPeople() {
  const people = [...awareness.getStates().entries()].filter(([, { user }]) => user).sort(([a], [b]) => a - b);
  element("people").replaceChildren(...people.map(([client, { user }]) => {
    const person = document.createElement("li");
    person.style.setProperty("--colour", user.colour);
    person.textContent = client === ydoc.clientID ? `${user.name} (you)` : user.name;
    return person;
  }));
}

function show() {
  const words = shown.trim() ? shown.trim().split(/\s+/).length : 0;
  element("count").textContent = `${words} ${words === 1 ? "word" : "words"}`;
  showMarks();
}

// -- events -----------------------------------------------------------------------------------------------------------------------

provider.on("status", ({ status }) => {
  element("light").classList.toggle("open", status === "connected");
  element("status").textContent = status === "connected" ? "connected" : "reconnecting…";
});
provider.once("sync", () => {
  area.disabled = false;
  area.focus();
  show();
});
awareness.on("change", () => {
  showPeople();
  showMarks();
});
document.addEventListener("selectionchange", tellCaret);
area.addEventListener("blur", tellCaret);
area.addEventListener("scroll", () => (element("marks").scrollTop = area.scrollTop));
element("name").addEventListener("input", tellName);
tellName();
