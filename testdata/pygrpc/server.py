"""A small demo.orders.v1.Orders on the gRPC of another language: python3 server.py DESCRIPTOR_SET [PORT]

It knows the messages from the descriptor set alone, prints "listening on ADDRESS" when it serves, and ends when its
standard input does. GetOrder knows orders/1; Quote sells mugs and kettles; every other method is UNIMPLEMENTED.
"""

import sys
from concurrent import futures

import grpc
from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, message_factory

PRICES = {"mug": 1250, "kettle": 4999}


def classes(files):
    """Returns a function that gives the class of a message by its full name."""
    pool = descriptor_pool.DescriptorPool()
    for file in files:  # in order: imports first
        pool.Add(file)
    if hasattr(message_factory, "GetMessageClass"):
        make = message_factory.GetMessageClass
    else:  # before protobuf 4.22
        make = message_factory.MessageFactory(pool).GetPrototype
    return lambda name: make(pool.FindMessageTypeByName(name))


def error_model():
    """google.rpc.Status and ErrorInfo, as far as they are needed here."""
    field = descriptor_pb2.FieldDescriptorProto
    one, many = field.LABEL_OPTIONAL, field.LABEL_REPEATED
    file = descriptor_pb2.FileDescriptorProto(
        name="error_model.proto", package="google.rpc", syntax="proto3", dependency=["google/protobuf/any.proto"])
    status = file.message_type.add(name="Status")
    status.field.add(name="code", number=1, type=field.TYPE_INT32, label=one)
    status.field.add(name="message", number=2, type=field.TYPE_STRING, label=one)
    status.field.add(name="details", number=3, type=field.TYPE_MESSAGE, label=many, type_name=".google.protobuf.Any")
    info = file.message_type.add(name="ErrorInfo")
    info.field.add(name="reason", number=1, type=field.TYPE_STRING, label=one)
    info.field.add(name="domain", number=2, type=field.TYPE_STRING, label=one)
    any_file = descriptor_pb2.FileDescriptorProto()
    any_pb2.DESCRIPTOR.CopyToProto(any_file)
    return classes([any_file, file])


class Orders:
    def __init__(self, message):
        self.message = message
        self.errors = error_model()

    def refuse(self, context, code, text, reason):
        """Ends the call with a status that has an ErrorInfo."""
        info = self.errors("google.rpc.ErrorInfo")(reason=reason, domain="orders.python")
        status = self.errors("google.rpc.Status")(code=code.value[0], message=text)
        status.details.add(
            type_url="type.googleapis.com/google.rpc.ErrorInfo", value=info.SerializeToString(deterministic=True))
        context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
        context.abort(code, text)

    def get_order(self, request, context):
        context.send_initial_metadata((("x-server", "python"),))
        if request.name != "orders/1":
            self.refuse(context, grpc.StatusCode.NOT_FOUND, f"order '{request.name}' not found", "ORDER_NOT_FOUND")
        order = self.message("demo.orders.v1.Order")(
            name=request.name, customer=request.customer or "guido", state=1, labels={"served by": "python"},
            total_cents=2500, address={"city": "København", "country": "DK"})
        order.items.add(sku="mug", quantity=2, price_cents=1250, tags=["blå"])
        order.created.FromJsonString("2026-01-05T08:30:00.000000001Z")
        order.delivery_time.FromJsonString("1.5s")
        context.set_trailing_metadata((("x-items", str(len(order.items))),))
        return order

    def quote(self, request, context):
        answer = self.message("demo.orders.v1.QuoteResponse")()
        for item in request.items:
            if item.sku not in PRICES:
                self.refuse(context, grpc.StatusCode.INVALID_ARGUMENT, f"unknown SKU '{item.sku}'", "UNKNOWN_SKU")
            answer.prices[item.sku] = PRICES[item.sku]
            answer.total_cents += item.quantity * PRICES[item.sku]
        return answer


def main():
    descriptor_set = descriptor_pb2.FileDescriptorSet()
    with open(sys.argv[1], "rb") as file:
        descriptor_set.ParseFromString(file.read())
    message = classes(descriptor_set.file)
    orders = Orders(message)

    def unary(handler, request):
        return grpc.unary_unary_rpc_method_handler(
            handler,
            request_deserializer=message("demo.orders.v1." + request).FromString,
            response_serializer=lambda m: m.SerializeToString())

    server = grpc.server(futures.ThreadPoolExecutor(max_workers=4))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("demo.orders.v1.Orders", {
        "GetOrder": unary(orders.get_order, "GetOrderRequest"),
        "Quote": unary(orders.quote, "QuoteRequest"),
    }),))
    wanted = sys.argv[2] if len(sys.argv) > 2 else "0"
    port = server.add_insecure_port("127.0.0.1:" + wanted)
    server.start()
    print(f"listening on 127.0.0.1:{port}", flush=True)
    sys.stdin.read()
    server.stop(grace=None).wait()


if __name__ == "__main__":
    main()
