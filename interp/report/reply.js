// The page: its state, its controls, and the start.

const $ = (id) => document.getElementById(id);
const MARKS = { there: "✓", invented: "✗" };
const SCORES = {
  previous: ["saliency of the previous token", "saliency", "of its row (0 to 1)", "The share of the previous token in the saliency of the row that predicts a token. A low value means that the token depends little on the previous one."],
  salient_image: ["saliency on the image", "saliency", "nats", "Sum over the image of |A · ∂loss/∂A| in the row that predicts the token, mean over layers and heads."],
  on_image: ["attention on the image", "attention", "of the row's attention (0 to 1)", "Share of the attention of the row that predicts the token, mean over layers and heads."],
  surprisal: ["surprisal −ln p", "plain", "nats", "The surprisal of the token: 0 nats is certain."],
};

let page; // the data of the page
const state = { by: "previous", reply: 0, token: 0, layer: null, head: null, oneScale: false, anchors: true };

async function start() {
  const data = JSON.parse($("data").textContent);
  const buffer = await unpacked(data.arrays);
  delete data.arrays;
  for (const reply of data.replies) {
    reply.attention = new Layered(buffer, reply.attention);
    reply.saliency = reply.saliency && new Layered(buffer, reply.saliency);
    reply.shares = new Shares(buffer, reply.shares);
    reply.scores.surprisal = reply.logprobs.map((value) => (value === null ? null : Math.max(-value, 0)));
  }
  for (const one of data.forced) {
    one.maps = new Rows(buffer, one.maps);
    one.shares = new Shares(buffer, one.shares);
  }
  for (const image of data.images) {
    const picture = new Image();
    picture.src = image.url;
    await picture.decode();
    image.grey = greyed(image, picture);
    picture.alt = "The image of the question";
    picture.classList.toggle("small", Math.max(image.width, image.height) <= FINEST);
    $("images").append(picture);
  }
  page = data;
  state.by = Object.keys(SCORES).find((name) => name in page.replies[0].scores);
  state.token = Math.max(firstNamed(page.replies[0]), 0);
  setUp();
  showReplies();
  showToken();
  document.body.dataset.ready = "yes";
}

const firstNamed = ({ labels }) => {
  const invented = labels.indexOf("invented");
  return invented >= 0 ? invented : labels.indexOf("there");
};
const stopsOf = (kind) => page.colours[kind];
const replyNow = () => page.replies[state.reply];

// ------------------------------------------------------------------------------------------------------------- controls

function setUp() {
  for (const [name, [title]] of Object.entries(SCORES))
    if (name in page.replies[0].scores) $("by").append(make("option", { value: name }, title));
  $("by").value = state.by;
  $("by").addEventListener("change", () => { state.by = $("by").value; showReplies(); });
  const { layers, heads } = replyNow().attention;
  for (const [name, count] of [["layer", layers], ["head", heads]]) {
    const slider = $(name);
    slider.max = count - 1;
    slider.value = Math.floor(count / 2);
    $(`every-${name}`).checked = true;
    slider.addEventListener("input", () => choose({ [name]: Number(slider.value) }));
    $(`every-${name}`).addEventListener("change", (event) => choose({ [name]: event.target.checked ? null : Number(slider.value) }));
    if (count === 1) slider.disabled = $(`every-${name}`).disabled = true;
  }
  $("one-scale").addEventListener("change", (event) => choose({ oneScale: event.target.checked }));
  $("anchors").checked = state.anchors;
  $("anchors").addEventListener("change", (event) => choose({ anchors: event.target.checked }));
  $("anchors").closest("label").hidden = !replyNow().drift;
}

function choose(change) {
  Object.assign(state, change);
  showToken();
}

function showControls() {
  for (const name of ["layer", "head"]) {
    const count = replyNow().attention[`${name}s`];
    const chosen = state[name];
    $(`every-${name}`).checked = chosen === null;
    if (chosen !== null) $(name).value = chosen;
    $(name).closest(".slider").classList.toggle("mean", chosen === null);
    const said = chosen === null ? (count === 1 ? "mean" : `all ${count}`) : String(name === "layer" ? replyNow().layers[chosen] : chosen);
    $(`${name}-shown`).value = said;
    $(name).setAttribute("aria-valuetext", chosen === null ? `mean of ${name}s` : `${name} ${said}`);
  }
}

start().catch((error) => {
  $("failed").hidden = false;
  $("failed").textContent = `This page could not be drawn: ${error.message}. It needs a browser from 2023 or newer.`;
  throw error;
});
