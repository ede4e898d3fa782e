"""register.py ZOOKEEPER SERVICE HOST PORT DRAIN-SECONDS: announces an instance until SIGTERM. Needs kazoo."""
import json, signal, sys, threading, time
from kazoo.client import KazooClient
from kazoo.exceptions import KazooException

servers, service, host, port, window = sys.argv[1:]
name, stop, zk = host.replace(":", "-") + "-" + port, threading.Event(), KazooClient(hosts=servers, timeout=6)
path = f"/causeway/v1/services/{service}/instances/{name}"

def announce(status):
    data = json.dumps({"v": 1, "id": name, "status": status, "endpoints": [{"protocol": "grpc", "host": host, "port": int(port)}]})
    zk.ensure_path(path.rpartition("/")[0])
    node, change = zk.exists(path), zk.transaction()
    if node and node.ephemeralOwner == zk.client_id[0] and status == "up":
        return  # it is there, perhaps with an operator's order
    if node:  # the ghost of a former session, or our own with another status: replaced in one step
        change.delete(path, node.version)
    change.create(path, data.encode(), ephemeral=True)
    change.commit()

signal.signal(signal.SIGTERM, lambda *_: stop.set())
zk.start()
while not stop.is_set():
    try:
        announce("up")  # again after a session has expired
    except KazooException as e:
        print(repr(e), file=sys.stderr)
    stop.wait(1)
announce("draining")
time.sleep(float(window))
zk.stop()  # ends the session, and the node with it
