"""Batches: the same loop over the same tasks as `pipeline run`, as durable workflows (the only dbos).

    roster.py    what a batch is: its recipe, its rows, what is wrong with some; a file that is never changed
    turns.py     one step: look at what exists, plan, make the next thing
    waiting.py   who waits for films, and who of them is woken
    batch.py     who does it when: queues, recovery, cancelling

A render is a workflow, and each of its tasks a step of it. A render that buys
takes turns: the first, on the queue `buy`, buys and waits, and then hands over
to one on the queue `make`, which encodes. So thousands may wait in one process
while only as many encode as there are slots; and who waits for a slot is a row
in a table, no memory.

    run:0  buy    advance, wait, advance, …, hand over ─> run:1
    run:1  make   advance, advance, …, end

The engine is an errand boy. It gives nothing away that folders and the ledger
do not know: its tables may be wiped, a step may be done twice or by two
machines at once, and nothing is bought or encoded again. Traps that shaped
this, each reproduced before (facts/engine.md): two processes with one executor
id do everything twice (so a lock a folder, or an id and a database lock a
process); nobody looks after the dead (so whoever lives looks whose lock is
free, and puts back what he had); the version is a hash of the sources (so
`VERSION` is set by hand); pickles (so all is JSON); cancelling does not stop
what runs (so who cancels kills the ffmpeg of that render).
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import fcntl
import logging
import os
import platform
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pipeline.board import NEW, Standing, State
from pipeline.guard import Guard
from pipeline.messages import RETRIES, Message, batch_ended, render_ended, sent
from pipeline.metrics import Tally
from pipeline.read import recipe_text
from pipeline.roster import Batch, Render, draw_up, submitted
from pipeline.rows import read_rows
from pipeline.schedules import Schedule, from_json
from pipeline.sharing import sharing_of
from pipeline.slots import Slots
from pipeline.spans import Trace, trace_of
from pipeline.store import Store
from pipeline.turns import Role, Sofar, Step, Turn, broken, sofar_from
from pipeline.waiting import Lobby
from pipeline.yard import Yard
from stages.errors import AfterframeError, InputError, WriteError
from stages.ffmpeg import stop_all
from stages.files import attempt, locked, told
from stages.stage import nearest
from stages.stores import SQLite

if TYPE_CHECKING:
    import sqlalchemy
    from dbos import DBOSClient

log = logging.getLogger(__name__)

APPLICATION = "afterframe"

VERSION = "3"
"""Raised when a render that is under way could not go on by the new sources; it is then begun anew, and finds
all that was made and bought."""

WAITING = 5000
"""How many renders one process lets wait for their films; so many took 224 MB (tests/benchmarks/waiting.py)."""

BITE, EVERY = 20, 1.0
"""How many renders begin to buy, in all workers, in so many seconds: about as many as one plans meanwhile. All at
once, each would take half as much memory again until its turn came, and one worker would have them all."""

PACE, PACE_ALONE = 1.1 * EVERY, 0.5
"""Seconds between two looks into a queue, where many machines share it, and where one has it alone. Each is 10 ms of
a core, so that who looked ten times a second spent a tenth of it; of two looks within the time of one bite the second
gets nothing."""

HINTS = 1.0
"""Seconds between two looks for news: films that are done, batches that were told something."""

M_ARENA_MAX = -8
"""malloc.h"""

BUYERS = 32
"""How many renders plan, buy or fetch at the same time in one worker; threads, which are memory."""

UNHEARD = 30.0
"""Seconds without a look for news after which a worker is not well."""

OLD = 15.0
"""Seconds between two looks for what is queued for workers of an earlier version."""

CONNECTION = {"connect_timeout": "10", "tcp_user_timeout": "10000", "keepalives_idle": "5", "keepalives_interval": "3"}
"""Of libpq. Where a cable is pulled nothing says so: without these a worker would wait a quarter of an hour for an
answer, and two for what it listens for."""

ABANDONED = 10.0
"""Seconds without a word after which the database ends a transaction: so long a machine that was cut off in the middle
of one keeps others from what it had. The engine's own 60 kept its renders for a minute."""

CHUNK = 500
"""Renders that are submitted in one transaction."""

HANDED_OVER = "handed over"
"""How a turn ends that another follows."""

FAULTS = ("ERROR", "MAX_RECOVERY_ATTEMPTS_EXCEEDED")

UNDER_WAY = ("ENQUEUED", "DELAYED", "PENDING")

ERRANDS = ("tick", "watch", "tell")
"""The workflows that are no renders: a schedule's tick, the end of a batch waited for, a message sent."""

ALL = ["render", *ERRANDS]

AT_ONCE = 4
"""How many messages one worker sends at once: a receiver that does not answer must not keep renders waiting."""


@dataclass(frozen=True, slots=True)
class Engine:
    """Where the engine's tables are: the Postgres at `url`, or SQLite in a project's `folder`."""

    folder: Path
    url: str = field(default="", repr=False)

    @classmethod
    def of(cls, folder: Path) -> Engine:
        """As the environment says: AFTERFRAME_DATABASE, or else the project's folder."""
        return cls(folder, os.environ.get("AFTERFRAME_DATABASE", ""))

    @property
    def shared(self) -> bool:
        """Whether many machines share it."""
        return bool(self.url)

    @property
    def address(self) -> str:
        """As SQLAlchemy has it."""
        if not self.shared:
            return f"sqlite:///{self.folder / 'engine.sqlite3'}"
        import sqlalchemy  # noqa: PLC0415 -- heavy; dbos brings it

        url = sqlalchemy.make_url(self.url)
        return url.update_query_dict({**CONNECTION, **url.query}).render_as_string(hide_password=False)

    @property
    def schema(self) -> str:
        """The project's own in a database that others use too; the ledger is everybody's."""
        if not self.shared:
            return "dbos"
        with told(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        if shared := sharing_of(self.folder):
            return f"afterframe_{shared.project()}"
        kept = self.folder / "project"
        with locked(self.folder / "project.lock"):
            if not kept.exists():
                with attempt(kept) as part:
                    part.write_text(secrets.token_hex(4), encoding="utf-8")
            return f"afterframe_{kept.read_text(encoding='utf-8')}"

    def prepare(self) -> None:
        """Make its tables. Raises InputError where it cannot be had, and WriteError."""
        quiet()
        try:
            from dbos import DBOS  # noqa: PLC0415 -- heavy, and an extra
        except ImportError:
            raise InputError("batches need the extra `cluster`: pip install 'afterframe[cluster]'") from None
        if not self.shared:
            with told(self.folder):
                self.folder.mkdir(parents=True, exist_ok=True)
            SQLite(self.folder / "engine.sqlite3").write_ahead()  # twice as fast, and readers do not wait
        with self.translated():
            DBOS.migrate(self.address, schema=self.schema)

    @contextlib.contextmanager
    def client(self) -> Iterator[Desk]:
        """Somebody who submits, watches and gives orders, and makes nothing."""
        quiet()
        from dbos import DBOSClient  # noqa: PLC0415 -- heavy
        from dbos import DBOSPortableJSONSerializer as Json  # noqa: PLC0415 -- heavy

        with self.translated():
            client = DBOSClient(
                system_database_url=self.address,
                dbos_system_schema=self.schema,
                serializer=Json(),
                application_name=APPLICATION,
                sys_db_idle_transaction_timeout_sec=ABANDONED,
                retry_connection_errors=False,
            )
            try:
                yield Desk(self, client)
            finally:
                client.destroy()

    @contextlib.contextmanager
    def translated(self) -> Iterator[None]:
        """The database's errors as ours, without its password."""
        from sqlalchemy.exc import SQLAlchemyError  # noqa: PLC0415 -- heavy; dbos brings it

        try:
            yield
        except SQLAlchemyError as error:
            said = next(iter(str(getattr(error, "orig", None) or error).strip().splitlines()), type(error).__name__)
            where = "the database in AFTERFRAME_DATABASE" if self.shared else str(self.folder / "engine.sqlite3")
            raise WriteError(f"{where} cannot be used now: {said}") from None

    def connect(self, **options: Any) -> sqlalchemy.Engine:
        """Connections of our own."""
        import sqlalchemy  # noqa: PLC0415 -- heavy; dbos brings it

        url = sqlalchemy.make_url(self.address)
        if self.shared:
            url = url.set(drivername="postgresql+psycopg")
        return sqlalchemy.create_engine(url, **options)


def quiet() -> None:
    """The engine says on stderr what it does; what matters of it, we say."""
    import dbos._logger  # noqa: PLC0415 -- heavy

    dbos._logger.dbos_logger.setLevel(logging.ERROR)


# ---------------------------------------------------------------- who asks


@dataclass(frozen=True, slots=True)
class Desk:
    """Where batches are submitted, watched and told what to do."""

    engine: Engine
    client: DBOSClient

    def submit(self, batch: Batch, renders: Sequence[Render], watch: Callable[[int], None] = lambda _: None) -> None:
        """Put `renders` into their queues. One that is there already stays as it is."""
        from dbos import EnqueueOptions  # noqa: PLC0415 -- heavy

        connections = self.engine.connect()
        try:
            for start in range(0, len(renders), CHUNK):
                with connections.begin() as transaction:  # one commit for all: each alone took 14 ms
                    for render in renders[start : start + CHUNK]:
                        role: Role = "buy" if render.buys else "make"
                        spec = {"batch": batch.id, "render": render.id, "run": render.run, "role": role, "turn": 0}
                        options: EnqueueOptions = _options(render.run, 0, role)
                        self.client.enqueue_in_transaction(transaction, options, spec)
                watch(min(start + CHUNK, len(renders)))
        finally:
            connections.dispose()

    def under_way(self) -> dict[str, str]:
        """The runs that are queued or made now, by render."""
        rows = self.client.list_workflows(
            status=list(UNDER_WAY), name=["render"], load_input=False, load_output=False
        )  # fmt: skip
        found: dict[str, str] = {}
        for row in rows:
            run = row.workflow_id.rpartition(":")[0]
            found[run.partition("/")[0]] = run
        return found

    def counts(self) -> Counter[str]:
        """How many renders of all batches stand how: counted where they are, since there may be a million."""
        found = Counter[str]()
        for status, queue, said, many in self._asked(f"""
            SELECT status, queue_name, {self._said("state")}, count(*) FROM {self._table("workflow_status")} AS row
            LEFT JOIN {self._table("workflow_output")} AS result ON result.workflow_uuid = row.workflow_uuid
            WHERE name = 'render' GROUP BY 1, 2, 3"""):
            if said != HANDED_OVER:
                found[_word(status, queue, said)] += many
        return found

    def owners(self) -> set[str]:
        """The executors that have anything under way."""
        sql = f"SELECT DISTINCT executor_id FROM {self._table('workflow_status')}"
        names = ", ".join(f"'{name}'" for name in ALL)
        return {owner for (owner,) in self._asked(f"{sql} WHERE status = 'PENDING' AND name IN ({names})") if owner}

    def runs_of(self, executor: str) -> set[str]:
        """The runs that an executor has under way."""
        sql = f"SELECT workflow_uuid FROM {self._table('workflow_status')} WHERE status = 'PENDING' AND name = 'render'"
        return {id.rpartition(":")[0] for (id,) in self._asked(f"{sql} AND executor_id = '{executor}'")}

    def _asked(self, sql: str) -> list[Any]:
        """What a query of the engine's tables finds."""
        with self.engine.translated(), contextlib.ExitStack() as stack:
            connections = self.engine.connect(poolclass=_no_pool())
            stack.callback(connections.dispose)
            return list(stack.enter_context(connections.connect()).exec_driver_sql(sql))

    def _table(self, name: str) -> str:
        return f'"{self.engine.schema}".{name}' if self.engine.shared else name

    def _said(self, name: str) -> str:
        """What a finished workflow's result has under that name, in SQL."""
        result = "coalesce(result.output, row.output)"
        return f"CAST({result} AS json) ->> '{name}'" if self.engine.shared else f"json_extract({result}, '$.{name}')"

    def states(self, batch: Batch, known: Mapping[str, State] = MappingProxyType({})) -> dict[str, State]:
        """How each render stands, by its id; of those that are `known` to have ended, nothing is asked."""
        ended = {id: state for id, state in known.items() if state.word in ("done", "failed")}
        latest: dict[str, Any] = {}
        turns: dict[str, int] = {}
        renders = [render for render in batch.good if render.id not in ended]
        runs = {render.run: render.id for render in renders}
        for row in self._rows(batch, renders):
            run, _, turn = row.workflow_id.rpartition(":")
            if run in runs and int(turn) >= turns.get(run, -1):
                latest[runs[run]], turns[run] = row, int(turn)
        return ended | {render.id: _state(latest.get(render.id)) for render in renders}

    def _rows(self, batch: Batch, renders: Sequence[Render], load_input: bool = False) -> list[Any]:
        """The workflows of some renders of a batch, of others too that they began in."""
        own = f"/{batch.id}"
        found: list[Any] = []
        others = [render.run for render in renders if not render.run.endswith(own)]
        ours = [render.run for render in renders if render.run.endswith(own)]
        for runs in (ours, others):
            for start in range(0, len(runs), CHUNK):
                ids = [f"{run}:{turn}" for run in runs[start : start + CHUNK] for turn in range(TURNS)]
                found += self.client.list_workflows(workflow_ids=ids, load_input=load_input)
        return found

    def hold(self, batch: Batch, *, begun: bool = True) -> int:
        """Let nothing of it begin, nor go on after the task that is made now; or let go on what has `begun`, which
        may be paid. How many that held."""
        open_ = [row for row in self._rows(batch, batch.good) if row.status in UNDER_WAY]
        if not begun:
            open_ = [row for row in open_ if row.status != "PENDING" and row.queue_name == "buy"]
        for start in range(0, len(open_), CHUNK):
            self.client.cancel_workflows([row.workflow_id for row in open_[start : start + CHUNK]])
        return len(open_)

    def go_on(self, batch: Batch) -> int:
        """Let what was held go on where it stood. How many do."""
        return self.put_back(
            [row for row in self._rows(batch, batch.good, load_input=True) if row.status == "CANCELLED"]
        )

    def take_over(self) -> int:
        """Begin anew what is queued for workers of an earlier version: it finds what they made. How many that were."""
        earlier = [str(number) for number in range(int(VERSION))]
        older = self.client.list_workflows(
            status="ENQUEUED", name="render", app_version=earlier, load_output=False
        )  # fmt: skip
        for row in older:
            assert row.input
            spec = row.input["args"][0]
            spec = {key: spec[key] for key in ("batch", "render", "run", "role")} | {"turn": spec["turn"] + 1}
            self.client.enqueue(_options(spec["run"], spec["turn"], spec["role"]), spec)  # one that is there stays
            self.client.cancel_workflows([row.workflow_id])
        return len(older)

    def revive(self) -> None:
        """Put back what a worker of an earlier version had, where no other can be alive."""
        rows = self.client.list_workflows(status="PENDING", name="render", load_output=False)
        self.put_back([row for row in rows if row.app_version != VERSION])

    # ------------------------------------------------------------ messages

    def watch_over(self, batch: Batch, mark: str = "") -> None:
        """Have somebody told when it is over, if it names anybody; `mark` tells one time from another. Two that
        watch it say the same."""
        if batch.notify:
            self.client.enqueue(_errand("watch", f"watch/{batch.id}.{mark}"), batch.id)

    def tell(self, messages: Sequence[Message]) -> None:
        """Have messages sent. One that is known already is not sent again."""
        for message in messages:
            self.client.enqueue(_errand("tell", message.name), message.to_json())

    def untold(self, batch: Batch) -> tuple[int, int]:
        """How many of its messages are to be sent now, as far as is known, and how many later: they were not taken."""
        found = self._errands("watch", batch) + self._errands("tell", batch)
        later = sum(row.status == "DELAYED" for row in found)
        return len(found) - later, later

    def is_busy(self) -> bool:
        """Whether there is anything to do now; a message that is to be sent again later is not."""
        open_ = ((list(UNDER_WAY), ["render"]), (["ENQUEUED", "PENDING"], ["watch", "tell"]))
        return any(
            self.client.list_workflows(status=status, name=name, limit=1, load_input=False, load_output=False)
            for status, name in open_
        )

    def _errands(self, name: str, batch: Batch) -> list[Any]:
        return self.client.list_workflows(
            status=list(UNDER_WAY), name=name, workflow_id_prefix=f"{name}/{batch.id}.",
            load_input=False, load_output=False,
        )  # fmt: skip

    def put_back(self, rows: Sequence[Any]) -> int:
        """Put workflows back into their queues. How many that were."""
        queues = {row.workflow_id: _queue_of(row) for row in rows}
        for queue in set(queues.values()):
            ids = [id for id, its in queues.items() if its == queue]
            for start in range(0, len(ids), CHUNK):
                self.client.resume_workflows(ids[start : start + CHUNK], queue_name=queue)
        return len(rows)

    # ------------------------------------------------------------ schedules

    def schedule(self, schedule: Schedule) -> None:
        """Keep a schedule. Raises InputError if there is one of that name."""
        if any(each.name == schedule.name for each in self.schedules()):
            raise InputError(f"there is a schedule {schedule.name} already: give this one a --name, or remove that one")
        self.client.create_schedule(
            schedule_name=schedule.name, workflow_name="tick", schedule=schedule.cron, context=schedule.to_json(),
            automatic_backfill=schedule.catch_up != "none", cron_timezone=schedule.zone,
        )  # fmt: skip

    def schedules(self) -> list[Schedule]:
        """All of them, by name."""
        rows = self.client.list_schedules(application_name=APPLICATION)
        found = [from_json(row["context"], row["status"] != "ACTIVE", row["last_fired_at"] or "") for row in rows]
        return sorted(found, key=lambda each: each.name)

    def fire(self, schedule: Schedule) -> None:
        """Let it fire now. (The engine's own way needs a worker to have been there before.)"""
        now = datetime.now(UTC)
        name = f"tick-{schedule.name}:{int(now.timestamp() * 1000)}"
        self.client.enqueue(_errand("tick", name), now.isoformat(), schedule.to_json())

    def schedule_named(self, name: str) -> Schedule:
        """One of them. Raises InputError if there is none."""
        found = {each.name: each for each in self.schedules()}
        if name not in found:
            raise InputError(f"there is no schedule {name}{nearest(name, found)}")
        return found[name]


TURNS = 8
"""How often a render may be handed over; twice is what one should need."""


def _queue_of(row: Any) -> str:
    """The queue of a workflow; of one that was cancelled or recovered, the engine has forgotten it."""
    return "errands" if row.name in ERRANDS else str(row.input["args"][0]["role"])


def _options(run: str, turn: int, role: Role) -> Any:
    return {
        "workflow_name": "render",
        "queue_name": role,
        "workflow_id": f"{run}:{turn}",
        "app_version": VERSION,
        "application_name": APPLICATION,
    }


def _errand(name: str, id: str) -> Any:
    """Any version may do it."""
    return {"workflow_name": name, "queue_name": "errands", "workflow_id": id, "application_name": APPLICATION}


def _state(row: Any) -> State:
    if row is None:
        return NEW
    began, ended = (row.dequeued_at or 0) / 1000, (row.completed_at or 0) / 1000
    executor = row.executor_id or ""
    word = _word(row.status, row.queue_name, row.output["state"] if row.output else None)
    if row.status == "SUCCESS":
        return State(word, row.output or {}, began, ended, executor)
    if row.status in FAULTS:
        what = "it brought its worker down again and again" if row.status != "ERROR" else f"{row.error}"
        return State(word, _bug(what), began, ended, executor)
    return State(word, {}, began, 0.0, executor)


def _bug(says: str) -> dict[str, Any]:
    """The result of a render that came to no step's end."""
    return {"state": "failed", "files": [], "errors": [{"error": "Bug", "says": says, "failure": ""}]}


def _word(status: str, queue: str, said: str | None) -> str:
    """How a render stands whose last turn is so; `said` is what that turn ended with."""
    if status == "SUCCESS":
        return "queued" if said in (HANDED_OVER, None) else str(said)
    if status in FAULTS:
        return "failed"
    words = {
        "PENDING": "buying" if queue == "buy" else "making",
        "CANCELLED": "held",
        "ENQUEUED": "queued" if queue == "make" else "waiting",
    }
    return words.get(status, "waiting")


# ---------------------------------------------------------------- who works


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[bool]:
    """Whether this process is the only one that works in `folder`, on this machine; it stays so in the block."""
    with told(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "engine.lock").open("a+b")
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


@dataclass(slots=True)
class Worker:
    """A process that makes renders: `with Worker(engine, yard, slots): …`. There is one in a process.

    `slots` is how many tasks may use the processors at once, 0 for none; `buys` says whether it goes to market.
    """

    engine: Engine
    yard: Yard
    slots: int = 1
    buys: bool = True
    executor: str = ""
    free: Slots = field(init=False)
    stopping: threading.Event = field(default_factory=threading.Event)
    making: dict[int, str] = field(default_factory=dict)  # threads, with the batch that each works for
    turns: dict[tuple[str, str], tuple[Turn, Trace | None]] = field(default_factory=dict)  # between two steps
    lobby: Lobby = field(default_factory=Lobby)
    telling: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))
    tally: Tally = field(default_factory=Tally)
    heeded: float = 0.0  # when it last looked for news, and could

    @property
    def ready(self) -> int:
        """How many renders it takes that wait for a slot, or have one: when one is free, the next need not be asked
        for. Of those that many workers share none takes more than it will soon make."""
        return (2 if self.engine.shared else 4) * max(self.slots, 1)

    def __enter__(self) -> Worker:
        _one_heap()
        self.free = Slots(max(self.slots, 1))
        self.executor = self.executor or _executor_id(self.engine.shared)
        self.engine.prepare()
        self.yard.tidy()
        if self.engine.shared:
            sessions = self.engine.connect(isolation_level="AUTOCOMMIT", poolclass=_no_pool())
            guard = Guard(sessions, self.executor, self._owners, self._put_back, self._returned)
            guard.look()  # nothing is taken before the lock is held
            threading.Thread(target=guard.watch, args=[self.stopping], name="guard", daemon=True).start()
        else:
            with self.engine.client() as desk:
                desk.revive()
        self._launch()
        self.heeded = time.monotonic()
        threading.Thread(target=self._heed, name="news", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop what runs; it goes on with the next worker."""
        from dbos import DBOS  # noqa: PLC0415 -- heavy

        self.stopping.set()
        stop_all()
        self.lobby.wake_all()
        DBOS.destroy(destroy_registry=True)

    def _launch(self) -> None:
        from dbos import DBOS, DBOSConfig  # noqa: PLC0415 -- heavy
        from dbos import DBOSPortableJSONSerializer as Json  # noqa: PLC0415 -- heavy

        config: DBOSConfig = {
            "name": APPLICATION,
            "system_database_url": self.engine.address,
            "dbos_system_schema": self.engine.schema,
            "application_version": VERSION,
            "executor_id": self.executor,
            "serializer": Json(),
            "max_executor_threads": BUYERS + self.ready,
            "log_level": "ERROR",
            "run_migrations": False,
            "sys_db_idle_transaction_timeout_sec": ABANDONED,
            "scheduler_polling_interval_sec": 5.0,
        }

        async def render(spec: dict[str, Any]) -> dict[str, Any]:  # the engine marks it, which no method takes
            return await self._render(spec)

        async def tick(at: str, schedule: dict[str, Any]) -> str:
            return await DBOS.run_step_async({"name": "submit"}, self._tick, at, schedule)

        async def watch(batch: str) -> None:
            await DBOS.run_step_async({"name": "watch"}, self._watch_over, batch)

        async def tell(message: dict[str, Any]) -> str:
            return await self._tell(Message(**message))

        DBOS(config=config)
        DBOS.workflow(name="render", max_recovery_attempts=50)(render)
        for errand in (tick, watch, tell):
            DBOS.workflow(name=errand.__name__, max_recovery_attempts=50)(errand)
        queues = (["make"] if self.slots else []) + (["buy"] if self.buys else [])
        DBOS.listen_queues([*queues, "errands"])
        with self.engine.translated():
            DBOS.launch()
            pace = PACE if self.engine.shared else PACE_ALONE
            DBOS.register_queue("make", worker_concurrency=self.ready, polling_interval_sec=pace)
            DBOS.register_queue(
                "buy",
                worker_concurrency=WAITING,
                limiter={"limit": BITE, "period": EVERY},
                polling_interval_sec=pace,
            )
            DBOS.register_queue("errands", polling_interval_sec=5.0 if self.engine.shared else 1.0)

    # ------------------------------------------------------------ the workflow

    async def _render(self, spec: dict[str, Any]) -> dict[str, Any]:
        """What came of it. However it ends, it keeps no other waiting: the engine may end it at any step, if another
        machine has it now."""
        try:
            return await self._stepped(spec)
        finally:
            self.lobby.is_back(spec["run"])

    async def _stepped(self, spec: dict[str, Any]) -> dict[str, Any]:
        from dbos import DBOS  # noqa: PLC0415 -- heavy

        sofar: dict[str, Any] = spec.get("sofar") or asdict(Sofar())
        while True:
            step = await DBOS.run_step_async({"name": "advance"}, self._advance, spec, sofar)
            sofar = step["sofar"]
            left = min(step["at"] + step["seconds"] - time.time(), step["seconds"])
            self.lobby.is_back(spec["run"], left, step["line"])
            if step["next"] == "wait":
                # No step of its own, which is a sixth of what one that waits weighs: who goes on after a crash has
                # waited, if its time is over.
                if left > 0:
                    await self.lobby.wait(spec["run"], spec["batch"], left, step["keys"], step["line"])
            elif step["next"] == "hand over":
                role: Role = "make" if spec["role"] == "buy" else "buy"
                turn = spec["turn"] + 1
                if turn >= TURNS:
                    return _bug("handed over for ever")
                options, before = _options(spec["run"], turn, role), spec.get("sofar", {})
                if before.get("made") == sofar["made"]:  # handed back: what one made, the other cannot see yet
                    options["delay_seconds"] = 2.0 ** spec["turn"]
                further = {**spec, "role": role, "turn": turn, "sofar": sofar}
                await DBOS.enqueue_workflow_with_options_async(options, further)
                return {"state": HANDED_OVER}
            elif step["next"] == "end":
                result: dict[str, Any] = step["result"]
                return result

    def _advance(self, spec: Mapping[str, Any], sofar: Mapping[str, Any]) -> dict[str, Any]:
        """One step, in a thread. What was stopped in the middle has done nothing."""
        nothing: dict[str, Any] = {**Step("again", sofar_from(sofar)).to_json(), "at": time.time()}
        if self.stopping.is_set():
            threading.Event().wait()  # this process ends; whoever comes after it does the step
        whose = spec["batch"], spec["run"]
        kept = self.turns.pop(whose, None)
        if self.yard.told(spec["batch"]) in ("pause", "cancel"):
            return {**nothing, "next": "wait", "seconds": 5.0}
        me = threading.get_ident()
        self.making[me] = spec["batch"]
        trace: Trace | None = None
        try:
            turn, trace = kept or self._turn(spec)
            step = turn.step(sofar_from(sofar))
            if step.next == "again":
                self.turns[whose] = turn, trace
        except AfterframeError as error:  # what it needs cannot be had, now or at all
            step = broken(sofar_from(sofar), error)
        except Exception as error:
            log.exception("%s: a fault of Afterframe's", spec["run"])
            says = f"a fault of Afterframe's: {type(error).__name__}: {error}"
            self.tally.fail("Bug")
            if trace:
                trace.end("failed", sofar.get("began", 0.0))
            return {**nothing, "next": "end", "result": _bug(says)}
        finally:
            self.making.pop(me, None)
        if self.stopping.is_set() or self.yard.told(spec["batch"]) == "cancel":
            return nothing
        for made in step.made:
            self.tally.add(made["action"], made["seconds"])
        for failure in step.sofar.errors[len(sofar["errors"]) :]:
            self.tally.fail(failure["error"])
        self._log(spec, step)
        if trace and step.next == "end":
            trace.end(step.result["state"], step.sofar.began)
        if step.stop:
            self._stop(self.yard.shelf.read(spec["batch"]), step.stop)
        return {**step.to_json(), "at": time.time()}

    def _turn(self, spec: Mapping[str, Any]) -> tuple[Turn, Trace | None]:
        """A render that this process begins, or goes on with."""
        batch, recipe, store = self.yard.open(spec["batch"], spec["render"])
        if spec["turn"] and store.shared:
            store.shared.seen.look_anew()
        trace = trace_of(spec["run"], batch=spec["batch"], render=spec["render"], recipe=batch.recipe)
        watch, slot = (
            trace.watch if trace else lambda _: None,
            self.free.held if spec["role"] == "make" else contextlib.nullcontext,
        )
        return Turn(recipe, store, spec["role"], batch.keys, watch, slot), trace

    def _log(self, spec: Mapping[str, Any], step: Step) -> None:
        """What came of a step, for those who read logs."""
        told = {"batch": spec["batch"], "render": spec["render"]}
        for made in step.made:
            log.info("made %s in %.1f s", made["task"], made["seconds"], extra=told)
        if step.next == "end":
            says = "; ".join(error["says"] for error in step.result.get("errors", ()))
            log.info("%s%s", step.result["state"], f": {says}" if says else "", extra=told)

    def fault(self) -> str:
        """What keeps it from working; empty if nothing does."""
        if time.monotonic() - self.heeded > UNHEARD:
            return f"it could not look for news for {time.monotonic() - self.heeded:.0f} s"
        return ""

    def _stop(self, batch: Batch, why: str) -> None:
        """The money for a batch is spent: nothing more of it begins. What is paid is made, as nobody may come back
        while the provider still has it."""
        if self.yard.told(batch.id) == "go":
            self.yard.tell(batch.id, "stop", why)
            with self.engine.client() as desk:
                desk.hold(batch, begun=False)

    def _tick(self, at: Any, said: Mapping[str, Any]) -> str:
        """Submit the batch of one of a schedule's times; done again, it is the same batch. What came of it."""
        schedule = from_json(said)
        when = at if isinstance(at, datetime) else datetime.fromisoformat(str(at))
        if not schedule.wants(when, datetime.now(UTC)):
            log.warning("%s: the tick of %s was missed, and is not caught up", schedule.name, when.isoformat())
            return "missed"
        id = schedule.batch(when)
        try:
            if id not in self.yard.shelf.names():
                drawn = self.yard.kept_for(schedule.name, id) or self._drawn(schedule, id)
                with self.engine.client() as desk:
                    self.yard.submit(submitted(drawn, desk.under_way())[0])
            batch = self.yard.shelf.read(id)
            with self.engine.client() as desk:
                desk.submit(batch, [render for render in batch.good if render.run.endswith(f"/{id}")])
                desk.watch_over(batch)
        except AfterframeError as error:
            log.error("%s: the tick of %s failed: %s", schedule.name, when.isoformat(), error)
            return f"failed: {error}"
        for render in batch.bad:
            log.warning("%s: %s:%d: %s", id, batch.source, render.line, render.fault)
        return id

    def _drawn(self, schedule: Schedule, id: str) -> Batch:
        project = self.yard.folder.parent
        recipe = project / schedule.recipe
        rows = read_rows(str(project / schedule.rows) if schedule.rows else "", recipe, recipe_text(recipe))
        store = Store(self.yard.folder, schedule.simulate)
        return draw_up(recipe, rows, store, simulate=schedule.simulate, id=id)

    # ------------------------------------------------------------ messages

    async def _watch_over(self, id: str) -> None:
        """Have messages sent until a batch is over. Done again, it sends none anew: each has its name."""
        ended: dict[str, State] = {}  # by run: tried again, a render has another
        while True:
            if self.stopping.is_set():
                await asyncio.Event().wait()  # this process ends; whoever comes after it goes on
            began = time.monotonic()
            try:
                if await asyncio.to_thread(self._told_of, id, ended):
                    return
            except WriteError as error:
                log.warning("%s", error)
            await asyncio.sleep(max(2.0, 10 * (time.monotonic() - began)))

    def _told_of(self, id: str, ended: dict[str, State]) -> bool:
        """Have it told of what is not among the `ended` runs yet, and add that; whether all is over."""
        batch = self.yard.shelf.read(id)
        known = {each.id: ended[each.run] for each in batch.good if each.run in ended}
        with self.engine.client() as desk:
            standing = Standing(batch, *self.yard.shelf.told(id), desk.states(batch, known))
            if standing.word == "paused":
                return standing.over  # `pipeline resume` has it watched anew
            fresh = [
                each for each in batch.good if each.id not in known and standing.of(each).word in ("done", "failed")
            ]
            messages = [render_ended(standing, each) for each in fresh] if batch.notify and batch.notify.each else []
            desk.tell(messages + ([batch_ended(standing)] if standing.over else []))
        ended |= {each.run: standing.of(each) for each in fresh}
        return standing.over

    async def _tell(self, message: Message) -> str:
        """Send it; if it is not taken, have it sent again later. What came of it."""
        from dbos import DBOS  # noqa: PLC0415 -- heavy

        fault: str = await DBOS.run_step_async({"name": "send"}, self._send, asdict(message))
        if fault and message.attempt < len(RETRIES):
            again = _errand("tell", message.again.name)
            again["delay_seconds"] = RETRIES[message.attempt]
            await DBOS.enqueue_workflow_with_options_async(again, message.again.to_json())
        return fault or "taken"

    async def _send(self, message: Mapping[str, Any]) -> str:
        async with self.telling:
            return await asyncio.to_thread(sent, Message(**message))

    # ------------------------------------------------------------ the others

    def _owners(self) -> set[str]:
        """The executors that have renders under way."""
        with self.engine.client() as desk:
            return desk.owners()

    def _put_back(self, executor: str) -> int:
        """Put what a dead worker had back into the queues. How many that were."""
        with self.engine.client() as desk:
            return desk.put_back(
                desk.client.list_workflows(status="PENDING", name=ALL, executor_id=executor, load_output=False)
            )

    def _returned(self) -> None:
        """Let those go on whose renders went on elsewhere: they find that out, and end."""
        with self.engine.client() as desk:
            mine = desk.runs_of(self.executor)
        lost = self.lobby.wake_all(mine)
        log.warning("it was taken for dead: %d of its renders went on elsewhere", lost)

    # ------------------------------------------------------------ news

    def _heed(self) -> None:
        """Wake who waits for what is ready, stop what was cancelled, and now and then look for old work."""
        looked = float("-inf")
        while not self.stopping.wait(HINTS):
            try:
                self._news()
                self.heeded = time.monotonic()
                if time.monotonic() - looked > OLD:
                    looked = time.monotonic()
                    _give_back()
                    with self.engine.client() as desk:
                        desk.take_over()
            except (WriteError, InputError) as error:
                log.warning("%s", error)
            except Exception:  # whatever it is, those who wait must be woken
                log.exception("a look for news failed")

    def _news(self) -> None:
        orders = cache(self.yard.told)
        self.lobby.look(orders)
        stop_all([thread for thread, batch in dict(self.making).items() if orders(batch) == "cancel"])
        for batch, run in list(self.turns):
            if orders(batch) in ("pause", "cancel"):
                self.turns.pop((batch, run), None)


def _one_heap() -> None:
    """Let all threads share one heap, where glibc would give each its own: of many, each keeps the most that it
    ever needed, which was 15 MB more with a thousand that wait."""
    with contextlib.suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1)


def _give_back() -> None:
    """Give memory that is free back to the system: what planning took is kept otherwise, between what still waits."""
    with contextlib.suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)


def _no_pool() -> Any:
    from sqlalchemy.pool import NullPool  # noqa: PLC0415 -- heavy; dbos brings it

    return NullPool


def _executor_id(shared: bool) -> str:
    """Alone in a folder, whoever comes next goes on with what the last one had."""
    return f"{platform.node()}-{os.getpid()}-{secrets.token_hex(4)}" if shared else "local"
