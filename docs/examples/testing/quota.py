"""How often each user may do something: counts in a map, which a program in the kernel could share."""

import rawbpf


class Quota:
    """Lets each of at most `users` users through `limit` times."""

    def __init__(self, users: int, limit: int) -> None:
        self.limit = limit
        self.used = rawbpf.HashMap.create(key="u32", value="u64", max_entries=users, name="quota")

    def take(self, uid: int) -> bool:
        """Return whether `uid` may, and count it."""
        used = self.used.get(uid, 0)
        if used >= self.limit:
            return False
        try:
            self.used[uid] = used + 1
        except rawbpf.MapFull:
            return False
        return True

    def left(self, uid: int) -> int:
        """Return how often `uid` may still."""
        return self.limit - self.used.get(uid, 0)

    def reset(self) -> None:
        """Let everybody start again."""
        self.used.clear()

    def close(self) -> None:
        """Free the map."""
        self.used.close()
