"""A gRPC server by grpcio: all four kinds of call. Argument: its port."""
import sys
import time
from concurrent import futures

import greeter_pb2
import greeter_pb2_grpc
import grpc

Text = greeter_pb2.Text


class Greeter(greeter_pb2_grpc.GreeterServicer):
    def One(self, request, context):
        if request.text == "fail":
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "as you asked")
        if request.text == "wait":
            time.sleep(5)
        context.set_trailing_metadata((("x-trailer", "seen"),))
        return Text(text="hello " + request.text)

    def Down(self, request, context):
        for n in range(int(request.text)):
            yield Text(text=str(n))

    def Up(self, requests, context):
        return Text(text=str(sum(len(request.text) for request in requests)))

    def Both(self, requests, context):
        for request in requests:
            yield Text(text=request.text.upper())


server = grpc.server(futures.ThreadPoolExecutor(16), options=[("grpc.max_receive_message_length", 1 << 26)])
greeter_pb2_grpc.add_GreeterServicer_to_server(Greeter(), server)
server.add_insecure_port("127.0.0.1:" + sys.argv[1])
server.start()
server.wait_for_termination()
