// The page: what is chosen, and what is drawn for it.

const $ = (id) => document.getElementById(id);
const MARKS = { there: "✓", invented: "✗" };
const SCORES = {
  score: ["saliency of the token before", "saliency", "of its row (0 to 1)", "How much of what a token was predicted from lies in the token just before it. Low: it hardly follows from there."],
  salient_image: ["saliency on the image", "saliency", "nats", "Sum over the image of |A · ∂loss/∂A| in the row that predicts the token, mean over layers and heads."],
  on_image: ["attention on the image", "attention", "of the row's attention (0 to 1)", "Share of the attention of the row that predicts the token, mean over layers and heads."],
  surprise: ["surprise −ln p", "plain", "nats", "How unlikely the model found the token: 0 is certain."],
};

let page; // what the page is about
const state = { by: "score", reading: 0, token: 0, layer: null, head: null, oneScale: false, anchors: true };

async function start() {
  const data = JSON.parse($("data").textContent);
  const buffer = await unpacked(data.arrays);
  delete data.arrays;
  for (const reading of data.readings) {
    reading.attention = new Layered(buffer, reading.attention);
    reading.saliency = reading.saliency && new Layered(buffer, reading.saliency);
    reading.shares = new Shares(buffer, reading.shares);
    reading.scores.surprise = reading.logprobs.map((value) => (value === null ? null : Math.max(-value, 0)));
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
    picture.alt = "The image the question is about";
    picture.classList.toggle("small", Math.max(image.width, image.height) <= FINEST);
    $("images").append(picture);
  }
  page = data;
  state.by = Object.keys(SCORES).find((name) => name in page.readings[0].scores);
  state.token = Math.max(firstNamed(page.readings[0]), 0);
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
const readingNow = () => page.readings[state.reading];

// ------------------------------------------------------------------------------------------------------------- controls

function setUp() {
  for (const [name, [title]] of Object.entries(SCORES))
    if (name in page.readings[0].scores) $("by").append(make("option", { value: name }, title));
  $("by").value = state.by;
  $("by").addEventListener("change", () => { state.by = $("by").value; showReplies(); });
  const { layers, heads } = readingNow().attention;
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
  $("anchors").closest("label").hidden = !readingNow().drift;
}

function choose(change) {
  Object.assign(state, change);
  showToken();
}

function showControls() {
  for (const name of ["layer", "head"]) {
    const count = readingNow().attention[`${name}s`];
    const chosen = state[name];
    $(`every-${name}`).checked = chosen === null;
    if (chosen !== null) $(name).value = chosen;
    $(name).closest(".slider").classList.toggle("mean", chosen === null);
    const said = chosen === null ? (count === 1 ? "mean" : `all ${count}`) : String(name === "layer" ? readingNow().layers[chosen] : chosen);
    $(`${name}-shown`).value = said;
    $(name).setAttribute("aria-valuetext", chosen === null ? `mean of ${name}s` : `${name} ${said}`);
  }
}

start().catch((error) => {
  $("failed").hidden = false;
  $("failed").textContent = `This page could not be drawn: ${error.message}. It needs a browser of 2023 or newer.`;
  throw error;
});
