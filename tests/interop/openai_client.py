"""The official `openai` Python client against `mynah serve`, unchanged.

Starts the service in a temporary home with the functions of the quickstart and asks it the way OpenAI is asked.
Usage: python tests/interop/openai_client.py --mynah target/release/mynah
"""

import argparse
import json
import math
import pathlib
import subprocess
import tempfile

import openai

HERE = pathlib.Path(__file__).resolve().parent
FUNCTIONS = HERE.parents[1] / "controller" / "quickstart" / "functions.json"

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "send_email",
            "description": "Send an email to somebody.",
            "parameters": {"type": "object", "properties": {"subject": {"type": "string"}}, "required": []},
        },
    },
    {
        "type": "function",
        "function": {"name": "open_garage", "description": "Open the garage door."},
    },
]


def check(client: openai.OpenAI) -> None:
    models = [model.id for model in client.models.list()]
    assert "mynah" in models, models
    assert client.models.retrieve("mynah").owned_by == "mynah"

    said = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "set a timer for ten minutes"}]
    plain = client.chat.completions.create(model="mynah", messages=said, temperature=0.2, seed=1)
    words = plain.choices[0].message.content
    assert words and plain.choices[0].finish_reason == "stop", plain
    assert plain.usage.total_tokens == plain.usage.prompt_tokens + plain.usage.completion_tokens

    with client.chat.completions.stream(model="mynah", messages=said, stream_options={"include_usage": True}) as stream:
        streamed = stream.get_final_completion()
    assert streamed.choices[0].message.content == words, streamed
    assert streamed.usage.completion_tokens == plain.usage.completion_tokens

    said = [{"role": "user", "content": "please open the garage door"}]
    for stream in (False, True):
        if stream:
            with client.chat.completions.stream(model="mynah", messages=said, tools=TOOLS) as events:
                choice = events.get_final_completion().choices[0]
        else:
            choice = client.chat.completions.create(model="mynah", messages=said, tools=TOOLS).choices[0]
        assert choice.finish_reason == "tool_calls", choice
        call = choice.message.tool_calls[0]
        assert call.function.name == "open_garage" and json.loads(call.function.arguments) == {}, call
    result = {"role": "tool", "tool_call_id": call.id, "content": json.dumps({"door": "open"})}
    message = choice.message.model_dump(include={"role", "content", "tool_calls"})
    last = client.chat.completions.create(model="mynah", messages=[*said, message, result], tools=TOOLS)
    assert last.choices[0].message.content == "door: open", last
    forced = {"type": "function", "function": {"name": "send_email"}}
    chosen = client.chat.completions.create(model="mynah", messages=said, tools=TOOLS, tool_choice=forced)
    assert chosen.choices[0].message.tool_calls[0].function.name == "send_email", chosen

    # The client asks for base64 by itself and unpacks it.
    packed = client.embeddings.create(model="mynah", input=["good morning", "good evening"])
    floats = client.embeddings.create(model="mynah", input="good morning", encoding_format="float")
    assert [one.index for one in packed.data] == [0, 1]
    assert max(abs(a - b) for a, b in zip(packed.data[0].embedding, floats.data[0].embedding)) < 1e-4
    assert abs(math.fsum(value * value for value in floats.data[0].embedding) - 1) < 1e-3

    for wrong, error in [
        ({"model": "gpt-4o", "messages": said}, openai.NotFoundError),
        ({"model": "mynah", "messages": []}, openai.BadRequestError),
    ]:
        try:
            client.chat.completions.create(**wrong)
        except error as raised:
            assert raised.code and raised.type == "invalid_request_error", raised
        else:
            raise AssertionError(f"{wrong} was answered")
    try:
        client.with_options(api_key="wrong").models.list()
    except openai.AuthenticationError:
        pass
    else:
        raise AssertionError("a wrong key was taken")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mynah", required=True, type=pathlib.Path)
    mynah = parser.parse_args().mynah.resolve()
    with tempfile.TemporaryDirectory() as directory:
        home = pathlib.Path(directory)
        (home / "functions.json").write_bytes(FUNCTIONS.read_bytes())
        command = [mynah, "serve", "--home", home, "--listen", "127.0.0.1:0", "--json"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as service:
            try:
                address = json.loads(service.stdout.readline())["address"]
                token = (home / "service.token").read_text().strip()
                check(openai.OpenAI(base_url=f"http://{address}/v1", api_key=token, max_retries=0))
            finally:
                service.terminate()
        assert service.returncode == 0, service.returncode
    print(f"openai {openai.__version__}: chat completions, streams, tools, embeddings and errors are as its client expects")


if __name__ == "__main__":
    main()
