"use strict";

const $ = (id) => document.getElementById(id);
let picture = null; // a data URL

async function describeModel() {
  const answer = await fetch("/model", { headers: keyHeader() });
  if (answer.status === 401) {
    $("key-field").hidden = false;
    $("model").textContent = "this server needs an API key";
    return;
  }
  const model = await answer.json();
  const calibrated = model.calibration ? "calibrated" : "uncalibrated";
  $("model").textContent =
    `${model.name} · ${model.revision.slice(0, 19)} · ${model.dtype} on ${model.device} · ${calibrated}`;
}

function keyHeader() {
  const key = $("key").value;
  return key ? { Authorization: `Bearer ${key}` } : {};
}

function show(dataUrl) {
  picture = dataUrl;
  $("preview").hidden = $("remove").hidden = !dataUrl;
  $("hint").hidden = Boolean(dataUrl);
  if (dataUrl) $("preview").src = dataUrl;
}

function read(file) {
  if (!file) return;
  const reader = new FileReader();
  reader.onload = () => show(reader.result);
  reader.readAsDataURL(file);
}

function drawExample() {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = 224;
  const pen = canvas.getContext("2d");
  pen.fillStyle = "#fff";
  pen.fillRect(0, 0, 224, 224);
  pen.fillStyle = "#d22";
  pen.beginPath();
  pen.arc(112, 112, 72, 0, 2 * Math.PI);
  pen.fill();
  show(canvas.toDataURL("image/png"));
  $("question").value = "What shape is in the image?";
  $("a").value = "The shape is a circle.";
  $("b").value = "The shape is a triangle.";
}

function body() {
  return {
    prompt: $("question").value,
    images: picture ? [picture] : [],
    response_a: $("a").value,
    response_b: $("b").value,
  };
}

async function compare(event) {
  event.preventDefault();
  $("go").disabled = true;
  try {
    const answer = await fetch("/compare", {
      method: "POST",
      headers: { "Content-Type": "application/json", ...keyHeader() },
      body: JSON.stringify(body()),
    });
    const found = await answer.json();
    if (answer.ok) report(found, answer.headers);
    else refuse(found.error);
  } catch (error) {
    refuse({ code: "no answer", message: `the server did not answer (${error.message})` });
  } finally {
    $("go").disabled = false;
  }
}

function refuse(error) {
  $("result").hidden = $("empty").hidden = true;
  $("error").hidden = false;
  $("error").textContent = `${error.code}: ${error.message}`;
  if (error.code === "unauthorized") $("key-field").hidden = false;
}

function report(found, headers) {
  $("result").hidden = false;
  $("error").hidden = $("empty").hidden = true;
  const words = { a: "A is better", b: "B is better", tie: "A tie" };
  $("verdict").textContent = words[found.verdict];
  const percent = (100 * found.probability_a).toFixed(1);
  $("certainty").textContent =
    `${percent} % that A is the better answer` +
    (found.calibrated ? "" : " (this checkpoint is uncalibrated)");
  const widest = Math.max(Math.abs(found.score_a), Math.abs(found.score_b), 1e-9);
  for (const side of ["a", "b"]) {
    const score = found[`score_${side}`];
    $(`score-${side}`).textContent = score.toFixed(4);
    const low = Math.min(found.score_a, found.score_b, 0);
    $(`bar-${side}`).style.width = `${Math.max(2, (100 * (score - low)) / (widest - low))}%`;
    $(`bar-${side}`).className = found.verdict === side ? "best" : "";
  }
  $("margin").textContent = found.margin.toFixed(4);
  const usage = found.usage;
  $("tokens").textContent =
    `${usage.computed_tokens} computed (${usage.image_tokens} of the picture, ` +
    `${usage.response_tokens} of the answers)`;
  $("timing").textContent = headers
    .get("Server-Timing")
    .split(", ")
    .map((stage) => stage.replace(";dur=", " "))
    .join(" · ") + " ms";
  $("request-id").textContent = headers.get("X-Request-Id");
  $("curl").textContent = command();
}

function command() {
  const shown = body();
  shown.images = shown.images.map((url) => `${url.slice(0, 32)}...`);
  const json = JSON.stringify(shown, null, 1).replaceAll("'", "'\\''");
  return `curl ${location.origin}/compare \\\n  -H 'Content-Type: application/json' \\\n  -d '${json}'`;
}

function swap() {
  [$("a").value, $("b").value] = [$("b").value, $("a").value];
}

$("form").addEventListener("submit", compare);
$("example").addEventListener("click", drawExample);
$("remove").addEventListener("click", () => show(null));
$("swap").addEventListener("click", swap);
$("key").addEventListener("change", describeModel);
$("file").addEventListener("change", () => read($("file").files[0]));
$("drop").addEventListener("click", () => $("file").click());
$("drop").addEventListener("keydown", (event) => {
  if (event.key === "Enter" || event.key === " ") $("file").click();
});
for (const kind of ["dragover", "dragleave", "drop"]) {
  $("drop").addEventListener(kind, (event) => {
    event.preventDefault();
    $("drop").classList.toggle("over", kind === "dragover");
    if (kind === "drop") read(event.dataTransfer.files[0]);
  });
}
describeModel();
