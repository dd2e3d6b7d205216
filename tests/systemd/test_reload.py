"""`systemctl reload`: new code without a lost call, and a failure that is told."""

from __future__ import annotations

from tests.systemd.service import APPS, Service, installed_pool

CODE = "from pypool_worker import expose\n\n\n@expose\ndef version() -> int:\n    return {}\n"


def write_version(number: object) -> None:
    (APPS / "versioned.py").write_text(CODE.format(number))


def test_a_reload_returns_when_the_new_code_serves(service: Service) -> None:
    write_version(1)
    service.configure({"default": installed_pool("versioned", 2)})
    service.start()
    main = service.main_pid()
    assert service.execute("version") == 1
    write_version(22)
    done = service.reload()
    assert done.status == 0, done.text
    with service.client() as c:
        assert [c.execute("version") for _ in range(4)] == [22] * 4
    assert service.main_pid() == main
    assert service.property("ActiveState") == "active"


def test_fault_96_a_wrong_configuration_fails_the_reload_and_changes_nothing(service: Service) -> None:
    service.configure({"default": installed_pool("nasty")})
    service.start()
    worker = service.execute("pid")
    service.write(service.config.read_text().replace("max_workers", "max_worker"))
    line = 1 + service.config.read_text()[: service.config.read_text().index("max_worker ")].count("\n")
    assert service.reload().status == 1
    assert f"/etc/pypoold/pypoold.conf:{line}: " in service.journal.messages(f"_SYSTEMD_UNIT={service.unit}")
    assert service.property("ActiveState") == "active"
    assert service.execute("pid") == worker


def test_code_that_cannot_be_imported_fails_the_reload_and_the_old_serves_on(service: Service) -> None:
    write_version(1)
    service.configure({"default": installed_pool("versioned")})
    service.start()
    (APPS / "versioned.py").write_text("import a_module_of_nobody\n")
    assert service.reload().status == 1
    assert "a_module_of_nobody" in service.journal.messages(f"_SYSTEMD_UNIT={service.unit}", "SYSLOG_IDENTIFIER=pypoolctl")
    assert service.execute("version") == 1
