"""Ports that are named before anything listens there."""

import socket

from evaluator.serve import ports


def test_ports_are_free_and_none_that_connections_are_given_meanwhile(tmp_path, monkeypatch):
    low, high = map(int, ports.DEALT_OUT.read_text().split())
    found = ports.free_ports(8)
    assert len(set(found)) == 8 and not any(low <= port <= high for port in found)
    for port in found:
        socket.create_server((ports.HOST, port)).close()

    dealt_out = tmp_path / "range"
    dealt_out.write_text("1024\t65533\n")  # as where a machine is set to have many connections
    monkeypatch.setattr(ports, "DEALT_OUT", dealt_out)
    with socket.create_server((ports.HOST, 65_534)):
        first, second = ports.free_ports(2)
    assert 65_534 not in (first, second) and first != second
