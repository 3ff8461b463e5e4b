// The official OpenAI client for Node against a running gateway: TOLLGATE_URL, TOLLGATE_KEY in the environment.
// The client is the one from npm, unmodified. Prints one line a case, `ok NAME`; ends with status 1 at the first
// that fails, with the details.

import assert from "node:assert/strict";
import OpenAI, { AzureOpenAI, toFile } from "openai";
import { zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";

const url = process.env.TOLLGATE_URL.replace(/\/$/, "");
const key = process.env.TOLLGATE_KEY;
const model = "gpt-4o";
const messages = [{ role: "user", content: "What is a tollgate?" }];
const settings = { apiKey: key, maxRetries: 0, timeout: 30_000 };

const flavours = {
  AzureOpenAI: (more) =>
    new AzureOpenAI({ ...settings, endpoint: url, apiVersion: "2024-10-21", ...more }),
  OpenAI: (more) => new OpenAI({ ...settings, baseURL: `${url}/v1`, ...more }),
};

const weather = {
  type: "function",
  function: {
    name: "weather",
    parameters: {
      type: "object",
      properties: { place: { type: "string" } },
      required: ["place"],
      additionalProperties: false,
    },
    strict: true,
  },
};

async function gather(stream) {
  const all = [];
  for await (const part of stream) all.push(part);
  return all;
}

const textOf = (chunks) =>
  chunks.map((chunk) => chunk.choices[0]?.delta?.content ?? "").join("");

async function refusal(kind, code, call) {
  const error = await call().then(
    () => assert.fail(`no error, wanted ${kind.name}`),
    (error) => error,
  );
  assert.equal(error.constructor.name, kind.name, String(error));
  assert.equal(error.code, code);
  assert.ok(error.message && !error.message.includes("not-a-key-of-anyone"), error.message);
}

const cases = {
  async "chat answers with usage"(make) {
    const answer = await make().chat.completions.create({ model, messages });
    assert.ok(answer.choices[0].message.content);
    const { prompt_tokens, completion_tokens, total_tokens } = answer.usage;
    assert.ok(prompt_tokens > 0 && completion_tokens > 0);
    assert.equal(total_tokens, prompt_tokens + completion_tokens);
  },

  async "a stream that asks for no usage gets none"(make) {
    const chunks = await gather(
      await make().chat.completions.create({ model, messages, stream: true }),
    );
    assert.ok(textOf(chunks));
    for (const chunk of chunks) assert.ok(!chunk.usage, JSON.stringify(chunk));
    for (const chunk of chunks.slice(1)) assert.ok(chunk.choices.length, JSON.stringify(chunk));
  },

  async "a stream that asks for usage gets it last"(make) {
    const chunks = await gather(
      await make().chat.completions.create({
        model,
        messages,
        stream: true,
        stream_options: { include_usage: true },
      }),
    );
    assert.deepEqual(chunks.at(-1).choices, []);
    assert.ok(chunks.at(-1).usage.completion_tokens > 0);
    for (const chunk of chunks.slice(0, -1)) assert.ok(!chunk.usage, JSON.stringify(chunk));
  },

  async "the stream helper gathers a whole answer"(make) {
    const answer = await make()
      .chat.completions.stream({ model, messages })
      .finalChatCompletion();
    assert.ok(answer.choices[0].message.content);
  },

  async "a stream that is aborted can be followed by another call"(make) {
    const client = make();
    const stream = await client.chat.completions.create({ model, messages, stream: true });
    for await (const _ of stream) break;
    assert.ok((await client.chat.completions.create({ model, messages })).choices.length);
  },

  async "a tool is called"(make) {
    const answer = await make().chat.completions.create({
      model,
      messages,
      tools: [weather],
      tool_choice: { type: "function", function: { name: "weather" } },
    });
    const call = answer.choices[0].message.tool_calls[0];
    assert.equal(call.function.name, "weather");
    assert.equal(typeof JSON.parse(call.function.arguments), "object");
  },

  async "structured output is parsed"(make) {
    const Fact = z.object({ subject: z.string(), year: z.number(), certain: z.boolean() });
    const answer = await make().chat.completions.parse({
      model,
      messages,
      response_format: zodResponseFormat(Fact, "fact"),
    });
    assert.equal(typeof answer.choices[0].message.parsed.subject, "string");
  },

  async "embeddings come as base64 and as floats"(make) {
    const client = make();
    const request = { model: "text-embedding-3-small", input: ["a tollgate", "a bridge"] };
    const packed = await client.embeddings.create(request);
    const floats = await client.embeddings.create({ ...request, encoding_format: "float" });
    assert.equal(packed.data.length, 2);
    assert.equal(packed.data[0].embedding.length, floats.data[0].embedding.length);
    packed.data[1].embedding.forEach((found, at) =>
      assert.ok(Math.abs(found - floats.data[1].embedding[at]) < 1e-6),
    );
  },

  async "responses are created, streamed and retrieved"(make) {
    const client = make();
    const request = { model, input: "What is a tollgate?" };
    const answer = await client.responses.create(request);
    assert.ok(answer.output_text);
    const events = await gather(await client.responses.create({ ...request, stream: true }));
    assert.equal(events.at(-1).type, "response.completed");
    assert.ok(events.at(-1).response.usage.output_tokens > 0);
    assert.equal((await client.responses.retrieve(answer.id)).id, answer.id);
  },

  async "completions answer"(make) {
    const answer = await make().completions.create({
      model: "gpt-3.5-turbo-instruct",
      prompt: "A tollgate is",
    });
    assert.ok(answer.choices[0].text);
  },

  async "models are listed"(make) {
    assert.ok((await gather(make().models.list())).length);
  },

  async "an audio file is uploaded and transcribed"(make) {
    const file = await toFile(Buffer.alloc(100_000, 7), "speech.wav", { type: "audio/wav" });
    const answer = await make().audio.transcriptions.create({ model: "whisper-1", file });
    assert.ok(answer.text);
  },

  async "a wrong key is an authentication error"(make) {
    const client = make({ apiKey: "not-a-key-of-anyone" });
    await refusal(OpenAI.AuthenticationError, "invalid_subscription_key", () =>
      client.chat.completions.create({ model, messages }),
    );
  },

  async "no key is an authentication error"(make) {
    await refusal(OpenAI.AuthenticationError, "missing_subscription_key", () =>
      make().chat.completions.create(
        { model, messages },
        { headers: { authorization: null, "api-key": null } },
      ),
    );
  },

  async "an unknown model is not found"(make) {
    await refusal(OpenAI.NotFoundError, "DeploymentNotFound", () =>
      make().chat.completions.create({ model: "no-such-model", messages, stream: true }),
    );
  },

  async "a model outside the product is denied"(make) {
    await refusal(OpenAI.PermissionDeniedError, "model_not_allowed", () =>
      make().chat.completions.create({ model: "gpt-4.1", messages }),
    );
  },

  async "a body without messages is a bad request"(make) {
    await refusal(OpenAI.BadRequestError, "invalid_request_body", () =>
      make().chat.completions.create({ model, messages: null }),
    );
  },

  async "an answer carries a request id"(make) {
    const { data, response, request_id } = await make()
      .chat.completions.create({ model, messages })
      .withResponse();
    assert.ok(request_id);
    assert.equal(response.headers.get("x-request-id"), data._request_id);
    assert.equal(response.headers.get("x-ratelimit-remaining-tokens"), null);
  },

  async "calls at once do not mix"(make) {
    const client = make({ defaultHeaders: { "x-team": "red" } });
    const one = (number) =>
      client.embeddings.create({ model: "text-embedding-3-small", input: `number ${number}` });
    const numbers = [...Array(12).keys()];
    const atOnce = await Promise.all(numbers.map(one));
    for (const number of numbers) {
      assert.deepEqual(
        atOnce[number].data[0].embedding,
        (await one(number)).data[0].embedding,
      );
    }
  },
};

for (const [flavour, make] of Object.entries(flavours)) {
  for (const [name, run] of Object.entries(cases)) {
    try {
      await run(make);
    } catch (error) {
      console.log(`failed ${flavour}: ${name}`);
      console.error(error);
      process.exit(1);
    }
    console.log(`ok ${flavour}: ${name}`);
  }
}
