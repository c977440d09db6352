import importlib.util
from pathlib import Path
import obstore, requests
spec = importlib.util.spec_from_file_location("crash", Path(__file__).with_name("test_crash.py"))
crash = importlib.util.module_from_spec(spec); spec.loader.exec_module(crash)
def test_look(project, monkeypatch):
    here = project(); crash.prepare("promote", here)
    import traceback
    for name in ("get", "get_range", "get_ranges", "get_async"):
        real = getattr(obstore, name)
        def w(store, path, *a, _r=real, _n=name, **k):
            print("GET", _n, path, k.get("start"), k.get("length"), flush=True)
            return _r(store, path, *a, **k)
        monkeypatch.setattr(obstore, name, w)
    real2 = requests.Session.request
    def r(self, method, url, *a, **k):
        if method == "GET" and "/o/" in url: print("HTTP", url, k.get("params"))
        return real2(self, method, url, *a, **k)
    monkeypatch.setattr(requests.Session, "request", r)
    for after in (1, 2):
        n = here.cloud.arm(service="storage", operation="objects.get", kind="garbled", after=after)
        print("AFTER", after)
        with here.open() as ws:
            try: ws.promote(f"{here.model}:2", to="prod", dry_run=True)
            except Exception as e: print("ERR", repr(e))
        print("struck", here.cloud.struck(n)); here.cloud.control("DELETE")
