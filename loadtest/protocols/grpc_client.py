"""A gRPC client by grpcio: every kind of call, deadlines, errors. Argument: address. Exits 1 at a difference."""
import sys
import threading
import time

import greeter_pb2
import greeter_pb2_grpc
import grpc

Text = greeter_pb2.Text
sizes = [("grpc.max_receive_message_length", 1 << 26)]
stub = greeter_pb2_grpc.GreeterStub(grpc.insecure_channel(sys.argv[1], options=sizes))
calls = 0


def same(what, got, expected):
    global calls
    calls += 1
    if got != expected:
        sys.exit(f"{what}: {got!r} and not {expected!r}")


def code(work):
    try:
        work()
    except grpc.RpcError as error:
        return error.code(), error.details()
    return None


for size in (0, 1, 1000, 100_000, 4_000_000):
    same(f"unary {size}", len(stub.One(Text(text="x" * size)).text), size + 6)
reply, call = stub.One.with_call(Text(text="you"))
same("trailers", dict(call.trailing_metadata()).get("x-trailer"), "seen")
same("server streaming", [reply.text for reply in stub.Down(Text(text="500"))], [str(n) for n in range(500)])
same("client streaming", stub.Up(Text(text="x" * 1000) for _ in range(500)).text, "500000")

# Both directions: each answer is there before the next question.
turn, questions = threading.Semaphore(0), list("abcdefghij")


def ask():
    for question in questions:
        yield Text(text=question)
        turn.acquire()


heard = []
for reply in stub.Both(ask()):
    heard.append(reply.text)
    turn.release()
same("both directions", heard, [question.upper() for question in questions])

same("error", code(lambda: stub.One(Text(text="fail"))), (grpc.StatusCode.FAILED_PRECONDITION, "as you asked"))
began = time.monotonic()
late = code(lambda: stub.One(Text(text="wait"), timeout=0.5))
same("deadline", late and late[0], grpc.StatusCode.DEADLINE_EXCEEDED)
same("deadline in time", time.monotonic() - began < 3, True)
watch = stub.Both(ask())
watch.cancel()
same("after a cancelled call", stub.One(Text(text="you")).text, "hello you")
print(f"grpcio: {calls} checks passed")
