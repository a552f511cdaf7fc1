"""The network that tests make for themselves: frames cross it, and nothing of it is left."""

from __future__ import annotations

import os
import socket

import pytest
from support import network


def _namespace() -> str:
    return os.readlink("/proc/thread-self/ns/net")


@pytest.mark.needs(*network.NEEDS)
def test_a_frame_crosses_the_pair_and_the_thread_comes_back() -> None:
    before, names = _namespace(), socket.if_nameindex()
    with network.namespace():
        assert _namespace() != before
        near, far = network.veth_pair("own")
        assert {name for _, name in socket.if_nameindex()} >= {"lo", "own0", "own1"}
        with near.wire() as sender, far.wire() as receiver:
            sent = network.frame(far, near, b"across")
            sender.send(sent)
            assert receiver.receive() == sent
            back = network.frame(near, far, b"back")
            receiver.send(back)
            assert sender.receive() == back
    assert (_namespace(), socket.if_nameindex()) == (before, names)


@pytest.mark.needs(*network.NEEDS)
def test_the_thread_comes_back_from_a_test_that_failed() -> None:
    before = _namespace()
    with pytest.raises(AssertionError, match="ip link show nothing: "), network.namespace():
        network.ip("link", "show", "nothing")
    assert _namespace() == before
