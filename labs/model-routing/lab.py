"""The same models by the path (Azure OpenAI) and by the body (OpenAI): who answers, and what is refused."""

from openai import APIStatusError, AzureOpenAI, OpenAI

from world import API_VERSION, URL

QUESTION = [{"role": "user", "content": "Tell me about tollgates"}]
clients = {
    "azure-openai": AzureOpenAI(azure_endpoint=URL, api_key="lab-key-a", api_version=API_VERSION, max_retries=0),
    "openai": OpenAI(base_url=f"{URL}/v1", api_key="lab-key-a", max_retries=0),
}
for api, client in clients.items():
    for model in ("gpt-4.1", "gpt-4.1-mini", "gpt-4o", "gpt-5"):
        try:
            answer = client.chat.completions.with_raw_response.create(model=model, messages=QUESTION)
            print(f"{api:12} {model:12} {answer.headers['x-ms-region']}")
        except APIStatusError as error:
            print(f"{api:12} {model:12} {error.status_code} {error.code}")
