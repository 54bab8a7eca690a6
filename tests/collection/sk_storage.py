"""The state changes of a connection, counted in what hangs on its socket and found by its cookie."""

SHOWS = "map: sk_storage"
NEEDS = ("tp_btf", "sk_storage")
OPTIONS = {}
WORK = """python3 -c '
import os, socket, time
ready, tell = os.pipe()
pid = os.fork()
if pid == 0:
    os.setsid()
    listening = socket.create_server(("127.0.0.1", 0))
    connected = socket.create_connection(listening.getsockname())
    cookies = [each.getsockopt(socket.SOL_SOCKET, 57, 8) for each in (listening, connected)]
    os.write(tell, "{} {}".format(*(int.from_bytes(each, "little") for each in cookies)).encode())
    os.closerange(0, 3)
    time.sleep(60)
    os._exit(0)
print(pid, os.read(ready, 100).decode())'"""


def prove(session, sh):
    pid, listening, connected = (int(word) for word in sh(WORK).split())
    try:
        found = session.maps["states"].df()["value"]
        assert found[listening] == 1  # LISTEN
        assert found[connected] == 2  # SYN_SENT, ESTABLISHED
    finally:
        sh(f"kill {pid}")
    return "1 and 2 changes of state"
