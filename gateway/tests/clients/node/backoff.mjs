// Two calls of which the second meets a token limit: the client waits as long as it is told, by itself.

import OpenAI from "openai";

const client = new OpenAI({ baseURL: `${process.env.TOLLGATE_URL}/v1`, apiKey: process.env.TOLLGATE_KEY });
const messages = [{ role: "user", content: "What is a tollgate?" }];
const statuses = [];
for (let call = 0; call < 2; call += 1) {
  const { response } = await client.chat.completions.create({ model: "gpt-4o", messages }).withResponse();
  statuses.push(response.status);
}
console.log("ok", ...statuses);
