"""A function on the real Python FDK: answers with what the platform told it."""
import json
import time

from fdk import response


def handler(ctx, data=None):
    text = data.getvalue().decode("utf-8", "replace") if data else ""
    try:
        wish = json.loads(text) if text else {}
    except ValueError:
        wish = {"text": text}
    if not isinstance(wish, dict):
        wish = {"text": text}
    time.sleep(wish.get("sleep", 0))
    if wish.get("fail"):
        raise RuntimeError("asked to fail")
    told = {
        "call": ctx.CallID(),
        "fn": ctx.FnID(),
        "app": ctx.AppID(),
        "method": ctx.Method(),
        "url": ctx.RequestURL(),
        "headers": ctx.Headers(),
        "config": dict(ctx.Config()),
        "body": wish,
    }
    return response.Response(
        ctx,
        response_data=json.dumps(told),
        headers={"Content-Type": "application/json"},
        status_code=wish.get("status", 200),
    )
