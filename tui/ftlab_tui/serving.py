"""`ftui serve`: the app in a browser through textual-serve, on this machine and for one person.

textual-serve knows no login, and whoever reaches the app can start programs with it. So the server
listens on localhost only; the address that it prints holds a secret, since other people may have
accounts here; and what a foreign page in the same browser asks for is refused.
"""

from __future__ import annotations

import asyncio
import errno
import importlib.util
import os
import secrets
import shlex
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

from ftlab.errors import ConfigError, EnvironmentUnfit

HOST = "localhost"
OURS = ("localhost", "127.0.0.1", "::1")
LEAVE = 3.0  # seconds that open pages have to end at Ctrl-C
# The page asks for a font on another site; without a network it would wait for it.
POLICY = "default-src 'self' 'unsafe-inline' data:; connect-src 'self' ws://localhost:*"
Handler = Callable[[Any], Awaitable[Any]]


def serve(port: int, options: Sequence[str] = ()) -> None:
    """Serve until Ctrl-C; every page that is opened gets a process of `ftui` with these options.

    Raises:
        ConfigError: there is no such port.
        EnvironmentUnfit: textual-serve is not installed, or the port cannot be had.
    """
    if not 1 <= port <= 65535:
        raise ConfigError(f"--port {port}: a port is a number from 1 to 65535")
    if importlib.util.find_spec("textual_serve") is None:
        raise EnvironmentUnfit(
            "ftui serve needs the package textual-serve, which is in the locks but not installed "
            "here: `pip install textual-serve==1.1.3`. From afar: `ssh -t HOST ftui attach RUN`"
        )
    from aiohttp import web

    secret = secrets.token_urlsafe(16)

    def say(*running_on: object) -> None:
        print(f"http://{HOST}:{port}/?token={secret}\n"
              f"From afar: ssh -L {port}:{HOST}:{port} THIS_HOST, then the same address. "
              "Ctrl-C ends it; training goes on.", file=sys.stderr)  # fmt: skip

    try:
        web.run_app(
            _application(port, secret, options), host=HOST, port=port, print=say,
            access_log=None, shutdown_timeout=0.5, loop=asyncio.new_event_loop(),
        )  # fmt: skip
    except OSError as error:
        raise EnvironmentUnfit(_refused(error, port)) from error


def command(options: Sequence[str]) -> str:
    """The shell's line that starts the app for one page."""
    app = [sys.executable, "-P", "-c", "from ftlab_tui.cli import main; main()", *options]
    return shlex.join(app)


def may_enter(host: str, origin: str | None, given: str, secret: str) -> str:
    """Why a request is refused; "" when it is not.

    Args:
        host: its `Host`: a foreign name that points here is another site's trick.
        origin: its `Origin`, where the browser names one.
        given: the secret that it knows.
    """
    try:
        name = urlsplit(f"//{host}").hostname
    except ValueError:
        name = None
    if name not in OURS:
        return f"this server is {HOST}, not {name}"
    if origin is not None and urlsplit(origin).netloc != host:
        return "another site's page may not use this server"
    if not secrets.compare_digest(given.encode(), secret.encode()):
        return "open the whole address that `ftui serve` printed, with its token"
    return ""


async def _application(port: int, secret: str, options: Sequence[str]) -> Any:
    from rich.console import Console
    from textual_serve.server import Server

    os.environ["COLORTERM"] = "truecolor"  # of the browser, whatever this terminal can show
    server = Server(command(options), host=HOST, port=port, title="ftui")
    server.console = Console(quiet=True)  # its banner goes to stdout
    app = await server._make_app()
    pages: set[asyncio.Future[Any]] = set()
    app.middlewares.append(_guard(f"ftui-{port}", secret, pages))

    async def leave(_: object) -> None:
        """Let the apps quit: a page that is open would hold up the server's end."""
        for page in pages:
            page.cancel()
        if pages:
            await asyncio.wait(pages, timeout=LEAVE)
            await asyncio.sleep(0.2)  # so that the loop hears of its children's ends

    app.on_shutdown.append(leave)
    return app


def _guard(cookie: str, secret: str, pages: set[asyncio.Future[Any]]) -> Any:
    """Ask every request for the secret; the page's own requests bring it as a cookie.

    `pages` has what serves the pages that are open.
    """
    from aiohttp import web

    async def guard(request: Any, handler: Handler) -> Any:
        headers = request.headers
        given = request.query.get("token") or request.cookies.get(cookie, "")
        refused = may_enter(headers.get("Host", ""), headers.get("Origin"), given, secret)
        if refused:
            raise web.HTTPForbidden(text=f"{refused}\n")
        page = asyncio.ensure_future(handler(request))
        pages.add(page)
        try:
            response = await page
        finally:
            pages.discard(page)
        if not response.prepared:
            response.headers["Content-Security-Policy"] = POLICY
            response.set_cookie(cookie, secret, httponly=True, samesite="Strict")
        return response

    return web.middleware(guard)


def _refused(error: OSError, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} is in use; another one: `ftui serve --port {min(port + 1, 65535)}`"
    if error.errno == errno.EACCES:
        return f"port {port} is for root alone; one from 1024 on is for everybody"
    return f"port {port} of {HOST} cannot be had: {error.strerror or error}"
