"""Calls a gateway with the official clients, and prints what they say was used.

Reads one JSON document: where the gateway is, who calls, and the calls, each with the client and how it is to call. Prints a line of JSON for each
call, in their order. Whoever starts this compares the lines with what was charged.
"""

import asyncio
import inspect
import json
import sys

import anthropic
import openai

MESSAGES = [{"role": "user", "content": "Say hi."}]


async def awaited(value):
    """What a client answers: as it is, or once it is there."""
    return await value if inspect.isawaitable(value) else value


async def collected(stream):
    """All events of a stream."""
    if hasattr(stream, "__aiter__"):
        return [event async for event in stream]
    return list(stream)


async def left(stream):
    """Takes one event and leaves."""
    if hasattr(stream, "__aiter__"):
        await anext(aiter(stream))
    else:
        next(iter(stream))
    await awaited(stream.close())


def client_of(call, url, customer):
    """The client of a call: sync or async, and without retries of its own, which would be other calls."""
    kind = "Async" if call["async"] else ""
    vendor, name = {"openai": (openai, "OpenAI"), "anthropic": (anthropic, "Anthropic")}[call["client"].split(".")[0]]
    headers = {"x-customer-id": customer, "x-request-id": call["request_id"], "x-script": call["script"]}
    return getattr(vendor, kind + name)(
        api_key="for-the-backend", base_url=f"{url}/{call['product']}", max_retries=0, timeout=30, default_headers=headers
    )


def endpoint_of(client, name):
    """What creates a reply, and with what it is asked."""
    if name == "openai.chat":
        return client.chat.completions, {"model": "m", "messages": MESSAGES}
    if name == "openai.responses":
        return client.responses, {"model": "m", "input": "Say hi."}
    return client.messages, {"model": "m", "messages": MESSAGES, "max_tokens": 50}


def usage_of(name, reply):
    """Input and output tokens of a whole reply."""
    usage = reply.usage
    if usage is None:
        return None
    if name == "openai.chat":
        return [usage.prompt_tokens, usage.completion_tokens]
    return [usage.input_tokens, usage.output_tokens]


def usage_of_events(name, events):
    """Input and output tokens as the events of a stream tell them."""
    if name == "openai.chat":
        said = [usage_of(name, event) for event in events if event.usage is not None]
    else:
        said = [usage_of(name, event.response) for event in events if event.type == "response.completed"]
    return said[-1] if said else None


async def message_of(endpoint, options):
    """The message that Anthropic's own helper makes of a stream."""
    stream = endpoint.stream(**options)
    if hasattr(stream, "__aenter__"):
        async with stream as events:
            return await events.get_final_message()
    with stream as events:
        return events.get_final_message()


async def called(call, url, customer):
    """What came of a call."""
    client = client_of(call, url, customer)
    endpoint, options = endpoint_of(client, call["client"])
    options |= call["options"]
    name = call["client"]
    try:
        if call["mode"] == "stream" and name == "anthropic.messages":
            return {"usage": usage_of(name, await message_of(endpoint, options))}
        if call["mode"] == "leave":
            await left(await awaited(endpoint.create(stream=True, **options)))
            return {}
        if call["mode"] == "stream":
            return {"usage": usage_of_events(name, await collected(await awaited(endpoint.create(stream=True, **options))))}
        if call["mode"] == "raw":
            raw = await awaited(endpoint.with_raw_response.create(**options))
            charge = raw.headers.get("tollgate-charge")
            return {"usage": usage_of(name, await awaited(raw.parse())), "told_charge": charge}
        return {"usage": usage_of(name, await awaited(endpoint.create(**options)))}
    except (openai.APIStatusError, anthropic.APIStatusError) as refused:
        return {"status": refused.status_code, "problem": json.loads(refused.response.text)}
    finally:
        await awaited(client.close())


async def main():
    job = json.load(sys.stdin)
    for call in job["calls"]:
        outcome = await called(call, job["url"], job["customer_id"])
        print(json.dumps({"request_id": call["request_id"], **outcome}), flush=True)


asyncio.run(main())
