// A chat with memory in the terminal: each line is a question, the answer comes as it is made. An empty line ends it.
import { createInterface } from "node:readline";
import { AzureOpenAI } from "openai";

const client = new AzureOpenAI({
  endpoint: process.env.TOLLGATE_URL,
  apiKey: process.env.TOLLGATE_KEY ?? "lab-key-a",
  apiVersion: "2024-10-21",
});
const model = process.env.AZURE_OPENAI_DEPLOYMENT ?? "gpt-4o";
const messages = [{ role: "system", content: "You answer in one sentence." }];

for await (const line of createInterface({ input: process.stdin })) {
  const question = line.trim();
  if (!question) break;
  messages.push({ role: "user", content: question });
  let answer = "";
  process.stdout.write(`> ${question}\n`);
  for await (const chunk of await client.chat.completions.create({ model, messages, stream: true })) {
    const text = chunk.choices[0]?.delta?.content ?? "";
    answer += text;
    process.stdout.write(text);
  }
  process.stdout.write("\n");
  messages.push({ role: "assistant", content: answer });
}
