"""WebSockets over one connection of HTTP/2 (RFC 8441): frames of HTTP/2 by `h2`, of WebSockets by `wsproto`."""
import asyncio

import h2.config
import h2.connection
import h2.events
import h2.settings
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong, TextMessage
from wsproto.extensions import PerMessageDeflate


class Closed(Exception):
    pass


class Socket:
    """What `websockets` calls a connection, as far as it is used here."""

    def __init__(self, http, stream, deflate):
        self.http, self.stream, self.deflate = http, stream, deflate
        self.answered = asyncio.get_running_loop().create_future()
        self.messages, self.pongs = asyncio.Queue(), asyncio.Queue()
        self.parts, self.subprotocol, self.frames = [], None, None
        self.close_code = self.close_reason = None

    def begin(self, headers):
        agreed = headers.get("sec-websocket-extensions")
        if agreed:
            self.deflate.finalize(agreed)
        self.frames = Connection(ConnectionType.CLIENT, [self.deflate] if agreed else [])
        self.subprotocol = headers.get("sec-websocket-protocol")
        self.answered.set_result(headers)

    def take(self, data):
        self.frames.receive_data(data)
        for event in self.frames.events():
            if isinstance(event, (TextMessage, BytesMessage)):
                self.parts.append(event.data)
                if event.message_finished:
                    empty = "" if isinstance(event, TextMessage) else b""
                    self.messages.put_nowait(empty.join(self.parts))
                    self.parts = []
            elif isinstance(event, Ping):
                asyncio.ensure_future(self.write(self.frames.send(event.response())))
            elif isinstance(event, Pong):
                self.pongs.put_nowait(None)
            elif isinstance(event, CloseConnection):
                self.close_code, self.close_reason = event.code, event.reason
                asyncio.ensure_future(self.write(self.frames.send(event.response()), end=True))
                self.messages.put_nowait(None)

    def end(self, error):
        self.messages.put_nowait(None)
        if not self.answered.done():
            self.answered.set_exception(error)

    async def write(self, data, end=False):
        await self.http.write(self.stream, data, end)

    async def send(self, message):
        parts = message if isinstance(message, list) else [message]
        for part in parts:
            kind = TextMessage if isinstance(part, str) else BytesMessage
            await self.write(self.frames.send(kind(data=part, message_finished=part is parts[-1])))

    async def recv(self):
        message = await self.messages.get()
        if message is None:
            raise Closed(self.close_code)
        return message

    async def ping(self):
        await self.write(self.frames.send(Ping(payload=b"there?")))
        return self.pongs.get()


class Http2:
    def __init__(self, at, tls):
        self.at, self.tls = at, tls
        self.open, self.room = {}, asyncio.Event()
        self.offered = asyncio.get_running_loop().create_future()

    async def __aenter__(self):
        host, port = self.at.rsplit(":", 1)
        if self.tls:
            self.tls.set_alpn_protocols(["h2"])
        self.reader, self.writer = await asyncio.open_connection(host, int(port), ssl=self.tls)
        if self.tls:
            assert self.writer.get_extra_info("ssl_object").selected_alpn_protocol() == "h2"
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
        self.h2.initiate_connection()
        self.h2.increment_flow_control_window(8 << 20)
        self.writer.write(self.h2.data_to_send())
        self.task = asyncio.ensure_future(self.read())
        # A client does not ask before it was offered (RFC 8441, 3).
        assert await asyncio.wait_for(self.offered, 20), "extended CONNECT is not offered"
        return self

    async def __aexit__(self, *_):
        self.task.cancel()
        self.writer.close()

    async def read(self):
        try:
            while data := await self.reader.read(65536):
                self.take(data)
            raise EOFError("the connection ended")
        except Exception as error:
            for socket in self.open.values():
                socket.end(error)

    def take(self, data):
        for event in self.h2.receive_data(data):
            if isinstance(event, h2.events.RemoteSettingsChanged) and not self.offered.done():
                code = h2.settings.SettingCodes.ENABLE_CONNECT_PROTOCOL
                changed = event.changed_settings.get(code)
                self.offered.set_result(bool(changed and changed.new_value))
            elif isinstance(event, h2.events.WindowUpdated):
                self.room.set()
            elif isinstance(event, h2.events.ResponseReceived):
                self.open[event.stream_id].begin(dict(event.headers))
            elif isinstance(event, h2.events.DataReceived):
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                if event.data:
                    self.open[event.stream_id].take(event.data)
            elif isinstance(event, (h2.events.StreamReset, h2.events.StreamEnded)):
                self.open[event.stream_id].end(Closed(repr(event)))
        self.writer.write(self.h2.data_to_send())

    async def write(self, stream, data, end):
        while data:
            room = min(self.h2.local_flow_control_window(stream), self.h2.max_outbound_frame_size, len(data))
            if room <= 0:
                self.room.clear()
                await self.room.wait()
                continue
            self.h2.send_data(stream, data[:room])
            data = data[room:]
            self.writer.write(self.h2.data_to_send())
            await self.writer.drain()
        if end:
            self.h2.end_stream(stream)
            self.writer.write(self.h2.data_to_send())

    async def websocket(self, path, subprotocol, deflate):
        stream = self.h2.get_next_available_stream_id()
        extension = PerMessageDeflate() if deflate else None
        socket = self.open[stream] = Socket(self, stream, extension)
        headers = [
            (":method", "CONNECT"),
            (":protocol", "websocket"),
            (":scheme", "https" if self.tls else "http"),
            (":path", path),
            (":authority", self.at),
            ("sec-websocket-version", "13"),
            ("sec-websocket-protocol", subprotocol),
        ]
        if extension:
            headers.append(("sec-websocket-extensions", f"{extension.name}; {extension.offer()}"))
        self.h2.send_headers(stream, headers)
        self.writer.write(self.h2.data_to_send())
        answer = await asyncio.wait_for(socket.answered, 20)
        if answer[":status"] != "200" or "sec-websocket-accept" in answer:
            raise AssertionError(answer)
        return socket
