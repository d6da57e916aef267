// Maps of values of image tokens over the pixels that each token covers.

const FINEST = 384; // pixels of the longer side of a drawn map

function mapSize(image) {
  const scale = FINEST / Math.max(image.width, image.height);
  return [Math.max(Math.round(image.width * scale), 1), Math.max(Math.round(image.height * scale), 1)];
}

// The image in light grey, so that the colours of the map stay distinguishable.
function greyed(image, picture) {
  const [width, height] = mapSize(image);
  const canvas = make("canvas", { width, height });
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  pen.imageSmoothingEnabled = Math.max(image.width, image.height) > FINEST;
  pen.drawImage(picture, 0, 0, width, height);
  const pixels = pen.getImageData(0, 0, width, height);
  for (let start = 0; start < pixels.data.length; start += 4) {
    const [r, g, b] = pixels.data.subarray(start, start + 3);
    const light = 105 + (0.2126 * r + 0.7152 * g + 0.0722 * b) * (150 / 255);
    pixels.data.set([light, light, light], start);
  }
  pen.putImageData(pixels, 0, 0);
  return canvas;
}

// Tokens without a place on the image (the queries of a Q-Former) are drawn as a strip under it, in order.
function drawMap(canvas, image, places, values, most, stops, outlined = []) {
  const [width, height] = mapSize(image);
  const placed = places.map((place, index) => ({ place, value: values[index], index }));
  const loose = placed.filter(({ place }) => place.box === null);
  const strip = loose.length ? Math.round(height * 0.12) : 0;
  canvas.width = width;
  canvas.height = height + (strip ? strip + 8 : 0);
  const pen = canvas.getContext("2d");
  pen.fillStyle = "#fff";
  pen.fillRect(0, 0, canvas.width, canvas.height);
  pen.drawImage(image.grey, 0, 0);
  pen.globalCompositeOperation = "multiply";
  pen.drawImage(tinted(width, height, placed, most, stops), 0, 0);
  pen.globalCompositeOperation = "source-over";
  loose.forEach(({ value }, index) => {
    pen.fillStyle = css(shade(most ? value / most : 0, stops));
    pen.fillRect((index * width) / loose.length, height + 8, width / loose.length, strip);
  });
  pen.strokeStyle = "#0072b2";
  pen.lineWidth = 3;
  for (const index of outlined) {
    const box = places[index] && places[index].box;
    if (box) pen.strokeRect(box[0] * width + 1.5, box[1] * height + 1.5, (box[2] - box[0]) * width - 3, (box[3] - box[1]) * height - 3);
  }
}

// Where several tokens cover a pixel (the whole image and a tile of it), their mean is shown.
function tinted(width, height, placed, most, stops) {
  const total = new Float64Array(width * height);
  const count = new Uint16Array(width * height);
  for (const { place, value } of placed) {
    if (place.box === null) continue;
    const [x0, y0, x1, y1] = place.box.map((edge, index) => Math.max(Math.round(edge * (index % 2 ? height : width)), 0));
    for (let y = y0; y < Math.min(y1, height); y++)
      for (let x = x0; x < Math.min(x1, width); x++) {
        total[y * width + x] += value;
        count[y * width + x] += 1;
      }
  }
  const layer = make("canvas", { width, height });
  const pen = layer.getContext("2d");
  const pixels = pen.createImageData(width, height);
  for (let index = 0; index < total.length; index++) {
    const value = count[index] && most ? total[index] / count[index] / most : 0;
    pixels.data.set([...shade(value, stops), 255], index * 4);
  }
  pen.putImageData(pixels, 0, 0);
  return layer;
}

// The token under a point, in fractions of the image's width and height: the smallest box that contains it.
function under(places, x, y) {
  const size = ([x0, y0, x1, y1]) => (x1 - x0) * (y1 - y0);
  const hit = places.map((place, index) => ({ box: place.box, index }))
    .filter(({ box }) => box && box[0] <= x && x < box[2] && box[1] <= y && y < box[3]);
  hit.sort((a, b) => size(a.box) - size(b.box));
  return hit.length ? hit[0].index : null;
}

const whereIs = (place) => `row ${place.row}, column ${place.col}${place.tile ? `, tile ${place.tile}` : ""}`;

// One cell per layer and head, the first layer at the bottom as in the plots.
function drawGrid(canvas, values, most, stops, layer, head) {
  const [layers, heads] = [values.length, values[0].length];
  const cell = Math.max(Math.floor(192 / Math.max(layers, heads)), 4);
  canvas.width = heads * cell;
  canvas.height = layers * cell;
  const pen = canvas.getContext("2d");
  values.forEach((row, l) => row.forEach((value, h) => {
    pen.fillStyle = css(shade(most ? value / most : 0, stops));
    pen.fillRect(h * cell, (layers - 1 - l) * cell, cell, cell);
  }));
  pen.strokeStyle = "#0072b2";
  pen.lineWidth = Math.max(cell / 8, 2);
  const [y, tall] = layer === null ? [0, layers] : [layers - 1 - layer, 1];
  const [x, wide] = head === null ? [0, heads] : [head, 1];
  const inset = pen.lineWidth / 2;
  pen.strokeRect(x * cell + inset, y * cell + inset, wide * cell - 2 * inset, tall * cell - 2 * inset);
}
