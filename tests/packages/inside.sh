# What clean_root.sh runs inside the clean Debian, as root, once systemd has started it.
set -euo pipefail

step() {
    echo "== $*"
}

fail() {
    echo "inside: $*" >&2
    exit 1
}

# Every file of the system, without what dpkg, apt and the journal keep about any package.
files() {
    find / -xdev \( -path /proc -o -path /sys -o -path /dev -o -path /run -o -path /tmp -o -path /root \
        -o -path /var/lib/dpkg -o -path /var/lib/apt -o -path /var/cache -o -path /var/log/journal -o -path /var/tmp \) -prune \
        -o \( -type f -o -type l -o -type d \) -print |
        grep -v -e '^/var/log/\(apt\|dpkg\|alternatives\|wtmp\|lastlog\|btmp\)' -e '^/etc/\(passwd\|group\|shadow\|gshadow\|subuid\|subgid\)-$' \
            -e '^/etc/\.pwd\.lock$' -e '^/var/lib/systemd/\(random-seed\|timers\|catalog\|linger\)' | sort
}

# The root directory of a purge: nothing is left but what is named.
left() {
    files >/root/after
    comm -13 /root/before /root/after
}

printf backend-token >token
python3 backend.py 2>backend.log &
backend=$!
trap 'kill $backend' EXIT
until (: </dev/tcp/127.0.0.1/8200) 2>/dev/null; do sleep 0.1; done
files >before

step "the commands of docs/install.md"
begin=$(date +%s.%N)
timeout 60 bash -euxo pipefail commands | tee answer || fail "they did not end well within 60 s; the journal:
$(journalctl --no-pager -u countersign | tail -20)"
echo "took $(echo "$(date +%s.%N) $begin" | awk '{ printf "%.1f", $1 - $2 }') s"
grep -q '^{"value": "s3cr3t", "read_by": "web-1"}$' answer || fail "the backend did not answer the signed read"

step "the service"
systemctl is-active countersign
systemctl is-enabled countersign
[ "$(ps -o user= -C countersign 2>/dev/null || stat -c %U /proc/"$(systemctl show -P MainPID countersign)")" = countersign ] ||
    fail "it does not run as its own user"
# Addresses of listening sockets, in hexadecimal: 127.0.0.1 is 0100007F.
awk '$4 == "0A" { print $2 }' /proc/net/tcp | grep -v -e '^0100007F:' && fail "something listens beyond loopback"
awk '$4 == "0A" { print $2 }' /proc/net/tcp6 | grep . && fail "something listens beyond loopback"
countersign check
(cd / && su -s /bin/sh countersign -c 'countersign check')
[ "$(cd / && su -s /bin/sh nobody -c 'cat /etc/countersign/backend-token' 2>/dev/null)" = "" ] || fail "anybody can read the token"

step "the files"
for file in /usr/share/man/man1/countersign{,-serve,-machine-add}.1.gz \
    /usr/share/bash-completion/completions/countersign /usr/share/zsh/vendor-completions/_countersign \
    /usr/share/fish/vendor_completions.d/countersign.fish /usr/share/doc/countersign/{copyright,README.md,docs/install.md}; do
    [ -s "$file" ] || fail "$file is missing"
done
bash -c 'source /usr/share/bash-completion/completions/countersign && complete -p countersign' >/dev/null

step "the agent, as the user of an application"
useradd --system --shell /bin/sh app
mkdir /etc/countersign-agent
countersign machine add --machine-id app --public-key "$(countersign keygen --out /etc/countersign-agent/app.pem)"
chown app /etc/countersign-agent/app.pem
cat >/etc/countersign-agent/app.yaml <<'END'
gateway: http://127.0.0.1:8080
machine_id: app
key: app.pem
listen: unix:/run/countersign-agent-app/socket
END
systemctl start countersign-agent@app
python3 - <<'END' || fail "the agent did not sign: $(journalctl --no-pager -u countersign-agent@app | tail -5)"
import socket, time
for attempt in range(100):
    try:
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(10)
        client.connect("/run/countersign-agent-app/socket")
        # The gateway has taken over the new machine within two seconds.
        client.sendall(b"GET /v1/secret/db HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        answer = b"".join(iter(lambda: client.recv(4096), b""))
        if b'"read_by": "app"' in answer:
            print(answer.decode().splitlines()[-1])
            break
    except OSError:
        pass
    time.sleep(0.1)
else:
    raise SystemExit(answer.decode())
END
systemctl stop countersign-agent@app
rm -r /etc/countersign-agent && userdel app

step "the same package again: configuration and registry stay, the service is restarted"
process=$(systemctl show -P MainPID countersign)
apt-get install -y --reinstall ./countersign_*.deb >upgrade.log 2>&1 || fail "$(cat upgrade.log)"
until countersign health; do sleep 0.2; done
[ "$(systemctl show -P MainPID countersign)" != "$process" ] || fail "the old process still runs"
countersign machine show web-1 >/dev/null
countersign request --key web-1.pem --machine-id web-1 GET http://127.0.0.1:8080/v1/secret/db

step "remove: configuration, state and audit log stay"
apt-get remove -y countersign >remove.log 2>&1 || fail "$(cat remove.log)"
[ -s /etc/countersign/machines.yaml ] && [ -s /var/log/countersign/audit.jsonl ] || fail "something went"
! systemctl is-active countersign >/dev/null || fail "the service still runs"

step "purge: the audit log stays, and nothing else"
apt-get purge -y countersign >purge.log 2>&1 || fail "$(cat purge.log)"
grep '^ \|^countersign:' purge.log
left | tee rest
[ "$(grep -v '^/var/log/countersign\(/audit\.[a-z.]*jsonl\)\?$' rest)" = "" ] || fail "purge left more than the audit log"
grep -q audit.jsonl purge.log || fail "purge does not name the audit log"
! getent passwd countersign || fail "the user is left"
[ "$(find / -xdev -nouser -print -quit 2>/dev/null)" = "" ] || fail "a file of nobody is left"

step "a package that never ran leaves nothing"
rm -r /var/log/countersign
apt-get install -y ./countersign_*.deb 2>&1 | sed -n '/^countersign:/,$p'
! systemctl is-enabled countersign >/dev/null || fail "it is enabled"
countersign check
apt-get purge -y countersign >purge.log 2>&1
[ "$(left)" = "" ] || fail "purge left: $(left)"
echo "clean root: passed"
