// The page of a chat room: /?room=lobby&name=ann. Every tab is a socket of its own; partysocket reconnects by itself.
import PartySocket from "/partysocket/index.js";

const params = new URLSearchParams(location.search);
const room = params.get("room") || "lobby";
const element = (id) => document.getElementById(id);
const name = element("name");
name.value = params.get("name") || sessionStorage.getItem("name") || `guest-${Math.floor(Math.random() * 900) + 100}`;
element("room").textContent = room;
document.title = `#${room}`;

const socket = new PartySocket({ host: location.host, party: "chat-room", room, query: () => ({ name: name.value }) });

socket.addEventListener("open", () => element("light").classList.add("open"));
socket.addEventListener("close", () => {
  element("light").classList.remove("open");
  element("status").textContent = "reconnecting…";
});
socket.addEventListener("message", (event) => {
  const said = JSON.parse(event.data);
  if (said.type === "history") {
    element("messages").replaceChildren(...said.messages.map(bubble));
  } else if (said.type === "message") {
    element("messages").append(bubble(said));
  } else if (said.type === "error") {
    element("messages").append(notice(said.error));
  } else {
    element("messages").append(notice(`${said.name} ${said.type === "join" ? "joined" : "left"}`));
  }
  if (said.count) element("status").textContent = said.count === 1 ? "only you are here" : `${said.count} are here`;
  element("messages").scrollTop = element("messages").scrollHeight;
});

element("compose").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = element("text").value.trim();
  if (text) socket.send(JSON.stringify({ text }));
  element("text").value = "";
});
name.addEventListener("change", () => {
  sessionStorage.setItem("name", name.value);
  socket.reconnect();
});

function bubble({ name: who, text, at }) {
  const message = document.createElement("article");
  message.className = who === name.value ? "message own" : "message";
  const [by, when, body] = ["b", "time", "p"].map((tag) => document.createElement(tag));
  by.textContent = who;
  when.textContent = new Date(at).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  body.textContent = text;
  message.append(by, when, body);
  return message;
}

function notice(text) {
  const line = document.createElement("p");
  line.className = "notice";
  line.textContent = text;
  return line;
}
