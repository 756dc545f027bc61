// Tags photos with NVIDIA Triton from Node, without any code of labelwise:
//   npm ci && node tag.mjs HOST:PORT MODEL PHOTO…
// Prints the three best labels of each photo. The ensemble takes the files as they are and decodes them itself.
import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import grpc from "@grpc/grpc-js";
import protoLoader from "@grpc/proto-loader";

const [address, model, ...photos] = process.argv.slice(2);
if (!photos.length) {
  console.error("usage: node tag.mjs HOST:PORT MODEL PHOTO…");
  process.exit(2);
}

const proto = fileURLToPath(new URL("../open_inference.proto", import.meta.url));
const { inference } = grpc.loadPackageDefinition(protoLoader.loadSync(proto, { keepCase: true, longs: Number }));
// gRPC's own limit is 4 MiB per message; a batch of photos is larger.
const options = { "grpc.max_send_message_length": -1, "grpc.max_receive_message_length": -1 };
// One client for all requests: each client is a connection.
const client = new inference.GRPCInferenceService(address, grpc.credentials.createInsecure(), options);

/** Elements of a BYTES tensor: each with its length before it, uint32 little-endian. */
function pack(elements) {
  return Buffer.concat(
    elements.flatMap((element) => {
      const length = Buffer.alloc(4);
      length.writeUInt32LE(element.length);
      return [length, element];
    }),
  );
}

function unpack(raw) {
  const elements = [];
  for (let at = 0; at < raw.length; at += 4 + raw.readUInt32LE(at)) {
    elements.push(raw.subarray(at + 4, at + 4 + raw.readUInt32LE(at)).toString());
  }
  return elements;
}

function infer(request) {
  const deadline = new Date(Date.now() + 30_000);
  return new Promise((resolve, reject) =>
    client.ModelInfer(request, { deadline }, (error, response) => (error ? reject(error) : resolve(response))),
  );
}

/** The best labels of each photo of one batch, as "label score" texts; at most the model's max_batch_size of photos. */
async function tag(files) {
  const response = await infer({
    model_name: model,
    inputs: [{ name: "IMAGE", datatype: "BYTES", shape: [files.length, 1] }],
    outputs: [{ name: "scores", parameters: { classification: { int64_param: 3 } } }],
    raw_input_contents: [pack(files)],
  });
  const [count, best] = response.outputs[0].shape;
  const texts = unpack(response.raw_output_contents[0]).map((text) => {
    const [score, , ...label] = text.split(":"); // score:index:label; a label may contain colons
    return `${label.join(":")} ${Number(score).toFixed(3)}`;
  });
  return Array.from({ length: count }, (_, photo) => texts.slice(photo * best, (photo + 1) * best));
}

try {
  const tags = await tag(await Promise.all(photos.map((photo) => readFile(photo))));
  photos.forEach((photo, at) => console.log([photo, ...tags[at]].join("\t")));
} catch (error) {
  console.error(error.details ?? error.message); // which image of the batch is broken, and why
  process.exitCode = 1;
} finally {
  client.close();
}
