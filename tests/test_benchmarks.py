"""The benchmark's figures are what they say: parsers, statistics, verdicts, the table. No servers are started."""

from __future__ import annotations

import io
import itertools
import json
import re
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from benchmarks.client import parse_answer
from benchmarks.contenders import CONTENDERS, HELLO, HERE, Place
from benchmarks.counting import READINGS_MAX, at_rest, check_counts, sum_counters
from benchmarks.databases import COLUMNS as DATABASE_COLUMNS
from benchmarks.databases import Reading, database_rows
from benchmarks.distances import COLUMNS as DISTANCE_COLUMNS
from benchmarks.distances import distance_rows
from benchmarks.figures import percentile, summaries, summarize
from benchmarks.flames import draw, gather, shorten
from benchmarks.goals import RATIOS, Verdict, judge
from benchmarks.load import Load, LoadFailed, Sample, parse_figures
from benchmarks.measures import TICKS_PER_S, Usage, count_flushes, cpu_s, field
from benchmarks.nodes import crowded, separate, share_crossed, together
from benchmarks.page import BEGIN, END, PageUnmarked, filled
from benchmarks.plot import Figure, panels
from benchmarks.price import COLUMNS as PRICE_COLUMNS
from benchmarks.price import price_rows
from benchmarks.queues import BATCHES, Answer, Sum, check_messages, deliveries, sends
from benchmarks.report import Footprint, Limits, Proof, Report, Run, Shared
from benchmarks.rooms import IDLE_SOCKET, RESIDENT_ACTOR, TALKS
from benchmarks.scaling import COLUMNS as CLUSTER_COLUMNS
from benchmarks.scaling import Cluster, cluster_rows, costs_of, save_picture
from benchmarks.seeds import entries_of
from benchmarks.session import Plan
from benchmarks.sockets import parse_deliveries
from benchmarks.table import COLUMNS, MEMORY_COLUMNS, markdown, memory_rows, remark_lines, render, sections
from benchmarks.workloads import TITLES, WORKLOADS
from stead import codec
from stead.storage.contract import LOAD_BYTES_MAX
from stead.testing import TestApp


def run(contender: str, requests: int, *, workload: str = "W3", variant: str = "", repeat: int = 0, fault: str = "") -> Run:
    """A run of one second."""
    return Run(workload, variant, contender, repeat, requests, 1.0, 1000 / requests, 5.0, 0.5, 64 << 20, 4096, fault)


def report(*runs: Run, proofs: tuple[Proof, ...] = ()) -> Report:
    return Report("2026-01-01T00:00:00+00:00", {"cores": "2"}, {"seconds": 1}, runs=list(runs), proofs=list(proofs))


def verdict_of(found: Report, workload: str, aim: str, variant: str = "") -> Verdict:
    return next(one for one in judge(found) if (one.workload, one.aim, one.variant) == (workload, aim, variant))


def test_figures_of_wrk_are_read() -> None:
    """The line that the script prints gives the sample; answers that were errors, or never came, are a fault."""
    good = "Running 1s test\nfigures requests=1000 microseconds=2000000 p50=1500 p99=9000 refused=0 broken=0\n"
    assert parse_figures(good) == Sample(1000, 2.0, 1.5, 9.0)
    assert "3 answers were errors" in parse_figures(good.replace("refused=0", "refused=3")).fault
    assert "2 never came" in parse_figures(good.replace("broken=0", "broken=2")).fault
    with pytest.raises(LoadFailed, match="no figures"):
        parse_figures("unable to connect")


def test_figures_of_sockets_are_read() -> None:
    """Deliveries are what is counted: a message that a hundred sockets hear is a hundred."""
    line = "figures messages=10 deliveries=1000 microseconds=2000000 p50=1500 p99=9000\n"
    assert parse_deliveries(line) == Sample(1000, 2.0, 1.5, 9.0)
    assert parse_deliveries(line).rate == 500
    with pytest.raises(LoadFailed, match="no figures"):
        parse_deliveries("sockets: the server refuses a connection")


def test_load_names_its_paths() -> None:
    """A load over ids has a path for each; one without ids is its prefix."""
    assert Load("POST", "/kv/a-", 3, 1).paths() == ["/kv/a-0", "/kv/a-1", "/kv/a-2"]
    assert Load("GET", "/", 0, 1).paths() == ["/"]


def test_answers_are_taken_whole() -> None:
    """The client waits for the whole body, and refuses what is not a 200 with a length."""
    assert parse_answer(b"HTTP/1.1 200 OK\r\nContent-Le") is None
    assert parse_answer(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel") is None
    assert parse_answer(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nX: y\r\n\r\nhello") == b"hello"
    for refused in (b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n"):
        with pytest.raises(LoadFailed, match="not a 200"):
            parse_answer(refused)


def test_counters_must_add_up() -> None:
    """A lost or doubled increment, and a write by reading, make a run not count; what was under way may be in or not."""
    sample = Sample(100, 1.0, 1.0, 1.0)
    write, read = Load("POST", "/kv/", 10, 4), Load("GET", "/kv/", 10, 4)
    assert [check_counts(write, sample, 10, after) for after in (110, 114)] == ["", ""]
    assert "99 were counted" in check_counts(write, sample, 10, 109)
    assert "105 were counted" in check_counts(write, sample, 10, 115)
    assert check_counts(read, sample, 10, 10) == ""
    assert "by 1" in check_counts(read, sample, 10, 11)
    assert sum_counters([b"1", b"20"]) == 21
    with pytest.raises(LoadFailed, match="something else"):
        sum_counters([b"1", b"hello"])


def test_proc_is_read() -> None:
    """Processor time is found behind any command name, that of ended children included; what the kernel does not tell is 0."""
    stat = f"7 (a) b (c) S 1 7 7 0 -1 0 0 0 0 0 {3 * TICKS_PER_S} {TICKS_PER_S} {2 * TICKS_PER_S} 0 20 0 1 0"
    assert cpu_s(stat) == 6.0
    assert field("Name:\tx\nVmHWM:\t  2048 kB\n", "VmHWM") == 2048
    assert field("rchar: 1\n", "write_bytes") == 0


def test_flushes_are_counted_once() -> None:
    """A call that strace shows in two lines counts once; other calls do not count."""
    trace = (
        "10 fdatasync(5)   = 0\n11 fsync(6 <unfinished ...>\n10 write(1, 'fsync(')\n11 <... fsync resumed>)  = 0\n"
        "10 --- SIGTERM ---\n12 msync(0x7, 8, MS_SYNC) = 0\n"
    )
    assert count_flushes(trace) == 3


def test_counters_are_read_at_rest() -> None:
    """Requests that an ended load left under way do not count as the next load's: only a sum that stays the same is taken."""
    readings = iter([7, 71, 72, 72, 90])
    assert at_rest(lambda: next(readings)) == 72
    assert next(readings) == 90
    endless = itertools.count()
    with pytest.raises(LoadFailed, match="do not come to rest"):
        at_rest(lambda: next(endless))
    assert next(endless) == READINGS_MAX


@pytest.mark.parametrize(
    ("values", "percent", "expected"), [([3, 1, 2], 50, 2), ([5], 99, 5), (range(1, 101), 99, 99), ([1, 2], 50, 1)]
)
def test_percentile(values: list[float], percent: float, expected: float) -> None:
    """The smallest value that the given share does not exceed."""
    assert percentile(values, percent) == expected


def test_summary_is_the_median() -> None:
    """Medians over the runs that count, the spread by the farthest one, the largest memory; nothing where no run counts."""
    summary = summarize([run("stead", 100), run("stead", 130), run("stead", 110), run("stead", 9000, fault="wrong")])
    assert summary is not None
    assert (summary.rate, summary.low, summary.high, summary.runs) == (110, 100, 130, 3)
    assert summary.spread_percent == pytest.approx(100 * 20 / 110)
    assert summary.cpu_percent == 50
    assert summary.bytes_per_request == pytest.approx(4096 / 110)
    assert summarize([run("stead", 100, fault="wrong")]) is None


def test_ahead_is_a_ratio_of_medians() -> None:
    """An aim is reached at its ratio and missed below it; without a peer, or with runs that do not count, nothing is claimed."""
    ahead = report(run("stead", 800), run("workerd", 100))
    assert verdict_of(ahead, "W3", "≥ 8 × workerd") == Verdict("W3", "", "≥ 8 × workerd", "8.00 ×", True)
    behind = report(run("stead", 799), run("workerd", 100))
    assert verdict_of(behind, "W3", "≥ 8 × workerd").is_reached is False
    assert verdict_of(report(run("stead", 800)), "W3", "≥ 8 × workerd").is_reached is None
    assert verdict_of(report(run("stead", 800, fault="x"), run("workerd", 1)), "W3", "≥ 8 × workerd").is_reached is None


def test_latency_aim_compares_times() -> None:
    """At one connection the median time counts, and a shorter one is ahead."""
    found = report(run("stead", 2000, workload="W3c1"), run("workerd", 1000, workload="W3c1"))
    assert verdict_of(found, "W3c1", "p50 ≤ workerd's").is_reached is True
    found = report(run("stead", 1000, workload="W3c1"), run("workerd", 2000, workload="W3c1"))
    assert verdict_of(found, "W3c1", "p50 ≤ workerd's").is_reached is False


def test_flushes_aim() -> None:
    """Flushes count per acknowledged request of a proof without a fault."""
    aim = "≤ 0.1 flushes a request"
    assert verdict_of(report(proofs=(Proof("W3", "stead", 1000, 100),)), "W3", aim).is_reached is True
    assert verdict_of(report(proofs=(Proof("W3", "stead", 1000, 101),)), "W3", aim).is_reached is False
    assert verdict_of(report(proofs=(Proof("W3", "stead", 1000, 10, "lost"),)), "W3", aim).is_reached is None
    assert verdict_of(report(proofs=(Proof("W3", "stead", 1000, None),)), "W3", aim).is_reached is None


def test_start_and_growth_aims() -> None:
    """A start is judged by its seconds, a growth by its slowest point over its fastest, and only if every point counts."""
    start = Run("W5", "process start", "stead", 0, 1, 0.4, 400.0, 400.0)
    found = report(start, *(run("stead", rate, workload="W7", variant=f"W2, size: {rate}") for rate in (80, 100)))
    start_aim = "≤ 0.5 s from process start to first answer"
    assert verdict_of(found, "W5", start_aim, "process start").is_reached is True
    assert verdict_of(found, "W7", "flat within 20 %", "W2, size").is_reached is True
    found.runs.append(run("stead", 79, workload="W7", variant="W2, size: 10 MiB"))
    assert verdict_of(found, "W7", "flat within 20 %", "W2, size").is_reached is False
    found.runs.append(run("stead", 90, workload="W7", variant="W2, size: more", fault="wrong"))
    assert verdict_of(found, "W7", "flat within 20 %", "W2, size").is_reached is None


def test_memory_aim() -> None:
    """An actor is judged by its bytes over the peer's, and both items are shown; without the peer nothing is claimed."""
    aim = "≤ 0.5 × partyserver's memory"
    own = [Footprint("W6", "stead", RESIDENT_ACTOR, 10, 50_000), Footprint("W6", "stead", IDLE_SOCKET, 100, 300_000)]
    found = report()
    found.footprints += own
    assert verdict_of(found, "W6", aim, RESIDENT_ACTOR).is_reached is None
    found.footprints.append(Footprint("W6", "partyserver", RESIDENT_ACTOR, 10, 100_000))
    assert verdict_of(found, "W6", aim, RESIDENT_ACTOR).is_reached is True
    rows = memory_rows(found)
    assert all(len(row) == len(MEMORY_COLUMNS) for row in rows)
    assert [row[-2:] for row in rows if row[0] == "partyserver"] == [("10,000", "0.50 ×")]
    assert "| stead | idle socket | 100 | 3,000 |" in markdown(found)
    found.footprints[-1] = Footprint("W6", "partyserver", RESIDENT_ACTOR, 10, 99_999)
    assert verdict_of(found, "W6", aim, RESIDENT_ACTOR).is_reached is False


def test_queue_aims() -> None:
    """Messages are what is counted, sends and deliveries apart; a message that is lost or doubled makes a run not count."""
    sent = Sum(sends(100), messages=4_000_000, seconds=4.0, used=Usage(4.0, 0, 0, 0))
    found = report(sent.run("W8", "stead", 0), run("redis-streams", 1_000_000, workload="W8", variant=sends(100)))
    assert verdict_of(found, "W8", "≥ 1 × redis-streams", sends(100)).is_reached is True
    assert verdict_of(found, "W8", "≥ 1 × redis-streams", deliveries(100)).is_reached is None
    sent.seconds = 4.1
    found.runs[0] = sent.run("W8", "stead", 0)
    assert verdict_of(found, "W8", "≥ 1 × redis-streams", sends(100)).is_reached is False
    assert check_messages(5, 5) == ""
    assert "5 messages were sent and 4 delivered" in check_messages(5, 4)
    assert "| stead | 975,610 | ± 0 % |  |  | 98 % | 1.0 |" in markdown(found)
    assert distance_rows(found) == []


def test_what_a_database_took_is_told() -> None:
    """The database's processor time is taken from the whole; counters are what grew between two readings."""
    shared = Reading(1.0, 10, 1000, 5000, 7).until(Reading(1.25, 60, 31_000, 5100, 7), 0.5)
    assert shared == Shared(0.25, 50, 30_000, 100, 0, 0.5)
    found = report(msgspec.structs.replace(run("stead", 1000, workload="WPn", variant=separate(2)), cpu_s=0.5, shared=shared))
    assert database_rows(found) == [("WPn nodes: 2", "250", "250", "20.0", "30", "0.1", "", "50 %")]
    assert all(len(row) == len(DATABASE_COLUMNS) for row in database_rows(found))
    assert "| WPn nodes: 2 | 250 |" in markdown(found)


def test_the_model_is_a_sum_of_costs(tmp_path: Path) -> None:
    """Costs that were put into the runs come out of them, and so many nodes cost what they add up to."""

    def measured(variant: str, crossed: float, transactions: int) -> Run:
        node_us, database_us = 80 + 60 * crossed, 10 + 200 * transactions / 1000
        shared = Shared(1000 * database_us * 1e-6, transactions, 330_000, 170_000, round(40_000 * crossed), crossed)
        one = run("stead", 1000, workload="WPn", variant=variant)
        return msgspec.structs.replace(one, cpu_s=1000 * (node_us + database_us) * 1e-6, shared=shared)

    found = report(measured(separate(1), 0.0, 40))
    assert costs_of(found) is None and cluster_rows(found) == []
    found.runs += [measured(separate(2), 0.5, 50), measured(separate(4), 0.75, 50), measured(crowded(4), 0.75, 100)]
    costs = costs_of(found)
    assert costs is not None
    assert [costs.local_us, costs.crossing_us] == pytest.approx([80, 60])
    assert [costs.commit_us, costs.transaction_us, costs.together] == pytest.approx([10, 200, 25])
    assert (costs.log_bytes, costs.database_bytes, costs.crossing_bytes) == (330, 170, 40)
    assert Cluster(1, costs).requests_per_s == pytest.approx(12_500)
    assert Cluster(10, costs).requests_per_s == pytest.approx(10 / 134e-6)
    assert Cluster(10, costs).database_cores == pytest.approx(10 / 134 * 18)
    assert all(len(row) == len(CLUSTER_COLUMNS) for row in cluster_rows(found))
    assert "| 10 | 74,627 | 90 % |" in markdown(found)
    assert save_picture(found, tmp_path / "model.svg") is (Figure is not None)


def test_nodes_aim() -> None:
    """Several nodes are judged by a request's processor time over one node's; without one node nothing is claimed."""
    aim = "≤ 2 × one node's processor time for a request"
    found = report(run("stead", 500, workload="WPn", variant=separate(4)))
    assert verdict_of(found, "WPn", aim, separate(4)).is_reached is None
    found.runs.append(run("stead", 1000, workload="WPn", variant=separate(1)))
    assert verdict_of(found, "WPn", aim, separate(4)).is_reached is True
    found.runs[0] = run("stead", 499, workload="WPn", variant=separate(4))
    assert verdict_of(found, "WPn", aim, separate(4)).is_reached is False


def test_requests_cross_to_where_actors_are() -> None:
    """Of requests for any actor, those cross that came to a node without it, weighted by how many came to each."""
    assert share_crossed([10], [7]) == 0
    assert share_crossed([5, 5], [100, 100]) == 0.5
    assert share_crossed([10, 0], [300, 100]) == 0.25
    both = together([Sample(100, 1.0, 1.0, 5.0), Sample(300, 2.0, 3.0, 4.0, "1 answers were errors, 0 never came")])
    assert both == Sample(400, 2.0, 2.5, 5.0, "1 answers were errors, 0 never came")


@pytest.mark.usefixtures("clock")
async def test_the_queues_that_are_measured_lose_nothing() -> None:
    """What the application of W8 sends is what it gets, in batches of any size that is measured, again and again."""
    async with TestApp(HERE / "servers" / "queues") as app:
        assert (await app.client.get("/")).text == "hello"
        for batch in BATCHES * 2:
            for path in (f"/send/8/{batch}/3", f"/deliver/8/{batch}"):
                answer = msgspec.convert((await app.client.post(path)).json(), Answer)
                assert answer.messages == 8 * batch * 3


def test_distances_are_shares_of_limits() -> None:
    """Stead's rate is held against the bare server, the load and the disk of the same report; an unknown limit stays empty."""
    found = report(run("stead", 500), run("uvicorn", 2000, workload="W1"), proofs=(Proof("W3", "stead", 1000, 100),))
    assert distance_rows(found) == [("W3", "500", "25 %", "", "50", "")]
    found.limits = Limits(300.0, 1000.0, 5000.0, None)
    assert distance_rows(found) == [("W3", "500", "25 %", "10 %", "50", "5 %")]
    assert all(len(row) == len(DISTANCE_COLUMNS) for row in distance_rows(found))


def test_price_is_told_part_by_part() -> None:
    """Each part's processor time, what it adds to the part before, and how many times the bare thing's that is."""
    found = report(run("uvicorn", 25_000, workload="W1"), run("stead", 20_000, workload="W1"), run("stead", 10_000, workload="W2"))
    rows = price_rows(found)
    assert [row[1:] for row in rows] == [("20", "", "", ""), ("25", "+5", "", ""), ("50", "+25", "", "")]
    found.runs.append(run("granian", 51_000, workload="W1"))
    assert price_rows(found)[-1][-2:] == ("11", "4.7 ×")
    assert all(len(row) == len(PRICE_COLUMNS) for row in price_rows(found))


def test_flames_are_drawn_from_samples() -> None:
    """Frames are as wide as their samples, a waiting thread is left out, and nothing tells of the machine it was drawn on."""
    above = "<module> (/home/me/.venv/bin/stead:8);Runner.run (/usr/lib/python3.11/asyncio/runners.py:118)"
    folded = (
        f"thread (77): MainThread;{above};Gateway.__call__ (/home/me/src/stead/gateway/app.py:70) 30\n"
        f"thread (77): MainThread;{above};Gateway.__call__ (/home/me/src/stead/gateway/app.py:70);get (/x/app.py:1) 60\n"
        "thread (78): stead-writer;Writer._run (/home/me/src/stead/storage/sqlite/writer.py:150) 500\n"
        "thread (78): stead-writer;Writer._run (/home/me/src/stead/storage/sqlite/writer.py:150);write (<string>) 10\n"
    )
    root = gather(shorten(folded))
    assert root.samples == 100
    assert list(root.called) == ["event loop", "stead-writer"]
    assert root.called["event loop"].called["Gateway.__call__ (stead/gateway/app.py)"].samples == 90
    picture = draw(root, "W2 & so on")
    assert picture.count("<rect") == 1 + 7 and "W2 &amp; so on" in picture
    assert "Gateway.__call__ (stead/gateway/app.py): 90.0 %" in picture
    assert "/home/me" not in picture and "script" not in picture


def test_every_aim_names_what_is_run() -> None:
    """Aims, workloads and contenders use the same names."""
    assert {ratio.workload for ratio in RATIOS} <= set(TITLES)
    assert {ratio.peer for ratio in RATIOS} <= {contender.name for contender in CONTENDERS}
    assert {one.workload for one in judge(report())} == set(TITLES)
    assert {ratio.variant for ratio in RATIOS if ratio.workload == "W6"} <= {talk.variant for talk in TALKS}


def test_table_shows_ratios_and_faults() -> None:
    """A row for each contender with Stead's ratio to it; a run that does not count says so in the row and why below."""
    found = report(
        run("stead", 800),
        run("workerd", 100),
        run("fastapi-redis", 5, fault="7 were lost"),
        proofs=(Proof("W3", "stead", 1000, 50),),
    )
    [section] = sections(found)
    rows = {row[0]: row for row in section.rows}
    assert all(len(row) == len(COLUMNS) for row in section.rows)
    assert rows["workerd"][-1] == "8.00 ×"
    assert rows["stead"][-2:] == ("0.050", "")
    assert rows["fastapi-redis"][1] == "does not count"
    assert remark_lines(found) == ["W3  fastapi-redis, repeat 0: 7 were lost"]
    screen = io.StringIO()
    Console(file=screen, width=132).print(render(found))
    assert "7 were lost" in screen.getvalue()
    assert "8.00 ×" in screen.getvalue()
    page = markdown(found)
    assert "| workerd | 100 |" in page
    assert len({row.count("|") for row in page.splitlines() if row.startswith("| workerd")}) == 1


def test_figures_go_between_the_marks() -> None:
    """Filling a page replaces the figures and nothing else, as often as one likes; a page without a place is refused."""
    once = filled(f"before\n{BEGIN}\nold\n{END}\nafter\n", "new")
    assert once == f"before\n{BEGIN}\nnew\n{END}\nafter\n" == filled(once, "new")
    with pytest.raises(PageUnmarked, match="needs the lines"):
        filled("no marks", "new")
    filled((HERE.parent / "docs" / "performance.md").read_text(), "new")


def test_report_is_kept_whole(tmp_path: Path) -> None:
    """What is saved is what was found."""
    kept = report(run("stead", 800), proofs=(Proof("W3", "stead", 1000, 50),))
    kept.limits = Limits(300.0, 3000.0, 50_000.0, None)
    kept.save(tmp_path / "deeper" / "report.json")
    assert Report.load(tmp_path / "deeper" / "report.json") == kept
    assert list(summaries(kept)) == [("W3", "", "stead")]


def test_plot_gathers_growth() -> None:
    """Each workload has a panel of contenders, each growth one of its points."""
    found = report(
        run("stead", 1), run("workerd", 2), *(run("stead", 3, workload="W7", variant=f"W2, size: {size}") for size in "ab")
    )
    assert {title: [name for name, _ in bars] for title, bars in panels(found).items()} == {
        "W3": ["stead", "workerd"],
        "W7 W2, size": ["a", "b"],
    }


def test_plan_counts_its_steps() -> None:
    """The progress bar knows the end: repeats of those that can take part, a proof for each that writes, growth for Stead alone."""
    by_name = {workload.name: workload for workload in WORKLOADS}

    def steps(name: str) -> int:
        return Plan(
            [by_name[name]], CONTENDERS, seconds=1, repeats=3, firsts=1, stored=(1, 100), residents=1, idle_sockets=1
        ).steps()

    assert steps("W1") == 3 * sum(HELLO in contender.serves for contender in CONTENDERS)
    assert steps("W3") == 4 * (3 + 1)
    assert steps("W3sql") == 3 * (3 + 1)
    assert steps("W5") == 4 * 3
    assert steps("WP") == 2 * (3 + 1)
    assert steps("WPn") == 3 * 7
    assert steps("W6") == 2 * (3 * 3 + 2)
    assert steps("W7") == 2 * 3 * (2 + 4)
    assert steps("W8") == 2 * 3 * len(BATCHES)


def test_contenders_listen_on_the_ports_they_get(tmp_path: Path) -> None:
    """Every command carries the port that is waited for: nothing is fixed, so nothing collides. Redis flushes always."""
    for contender in CONTENDERS:
        commands = contender.commands(Place(tmp_path, 4001, 4002))
        assert commands[-1].port == 4001
        for command in commands:
            assert re.search(rf"\b{command.port}\b", " ".join(command.line)), contender.name
    stores = [command for contender in CONTENDERS for command in contender.commands(Place(tmp_path, 1, 2)) if command.port == 2]
    redis = [store for store in stores if store.line[0] == "redis-server"]
    assert (len(redis), len(stores)) == (2, 4)
    assert all(" ".join(store.line).endswith("--appendonly yes --appendfsync always") for store in redis)


def test_seeds_have_their_size() -> None:
    """A seeded actor is a counter at 1 with fillers of about the size asked for; a large one is past what is loaded whole."""
    assert [codec.decode(value or b"") for value in entries_of(0).values()] == [1]
    for size_bytes in (1024, 10 << 20):
        stored = sum(len(value or b"") for value in entries_of(size_bytes).values())
        assert size_bytes <= stored <= size_bytes * 1.01 + 8
    assert LOAD_BYTES_MAX < 10 << 20


def test_lock_names_no_registry() -> None:
    """workerd is pinned, with checksums and without the address of whoever served it."""
    lock = json.loads((HERE / "package-lock.json").read_text())
    wanted = json.loads((HERE / "package.json").read_text())["dependencies"]
    packages = {name: entry for name, entry in lock["packages"].items() if name}
    assert packages["node_modules/workerd"]["version"] == wanted["workerd"]
    assert all("resolved" not in entry and entry["integrity"].startswith("sha512-") for entry in packages.values())
