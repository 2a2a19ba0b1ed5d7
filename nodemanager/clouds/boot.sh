#!/bin/sh
# A new node runs this once, as root (cloud-init). It announces the node at the Arvados API until it is
# answered, takes the host name it is given, joins the scheduler, and goes on announcing.

ping_url=@{ping_url}
ping_secret=@{ping_secret}
ping_seconds=@{ping_seconds}
retry_seconds=@{retry_seconds}
ca_certificate=@{ca_certificate}
insecure=@{insecure}
host_name=@{host_name}
join_command=@{join_command}
scratch_dir=@{scratch_dir}

umask 077
ca_file=
if [ -n "$ca_certificate" ]; then
    ca_file=$(mktemp -p /run 2>/dev/null || mktemp)
    printf '%s\n' "$ca_certificate" >"$ca_file"
fi

# Without curl, python3 does it.
python_post='
import ssl, sys, urllib.request
url, ca_file, insecure = sys.argv[1:]
tls = ssl.create_default_context(cafile=ca_file or None)
if insecure:
    tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
answer = urllib.request.urlopen(url, sys.stdin.buffer.read(), timeout=60, context=tls)
print(answer.read().decode())
'

# The secret travels on standard input: a command line is for everyone to read.
post() {
    if command -v curl >/dev/null; then
        curl --silent --show-error --fail --max-time 60 \
            ${ca_file:+--cacert "$ca_file"} ${insecure:+--insecure} --data-binary @- "$ping_url"
    else
        python3 -c "$python_post" "$ping_url" "$ca_file" "$insecure"
    fi
}

announce() {
    instance_id=$(cat /var/lib/cloud/data/instance-id 2>/dev/null || uname -n)
    address=$(hostname -I 2>/dev/null | cut -d ' ' -f 1)
    ram_mb=$(awk '/^MemTotal:/ { print int($2 / 1024) }' /proc/meminfo)
    scratch_mb=$(df -Pm "$scratch_dir" | awk 'NR == 2 { print $2 }')
    printf 'ping_secret=%s&instance_id=%s&local_ipv4=%s&total_cpu_cores=%s&total_ram_mb=%s&total_scratch_mb=%s' \
        "$ping_secret" "$instance_id" "$address" "$(nproc)" "$ram_mb" "$scratch_mb" | post
}

if [ -n "$ping_url" ]; then
    until answer=$(announce); do
        sleep "$retry_seconds"
    done
    given=$(printf '%s' "$answer" | grep -o '"hostname": *"[A-Za-z0-9.-]*"' | head -n 1 | cut -d '"' -f 4)
    host_name=${host_name:-$given}
fi

if [ -n "$host_name" ]; then
    hostnamectl set-hostname "$host_name" || hostname "$host_name"
fi
if [ -n "$join_command" ]; then
    until sh -c "$join_command"; do
        sleep "$retry_seconds"
    done
fi

if [ -n "$ping_url" ]; then
    (while sleep "$ping_seconds"; do announce; done) </dev/null >/dev/null 2>&1 &
fi
