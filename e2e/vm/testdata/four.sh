# A kernel that was told to have no IPv6.

check 'this kernel has no IPv6' <<'SH'
not test -e /proc/sys/net/ipv6
not test -e /proc/net/if_inet6
SH

profile hello builtin:hello 8080
check 'a box comes up, answers and goes, and nothing of IPv6 is tried' <<'SH'
boxrun profile check hello > /run/said 2>&1
boxrun up hello >> /run/said 2>&1
boxrun up hello >> /run/said 2>&1
cat /run/said
not grep -i -e ipv6 -e ip6 -e warning /run/said
answers 8080 | head -n 5
curl -fsS --max-time 60 http://localhost:8080/ > /dev/null
jq -e '.addr6 == null and .state.addr6 == null' /run/boxrun/boxes/hello.json
says 'network: *in place' boxrun status hello
boxrun status --check hello
boxrun ps
SH

check 'what is taken away is mended' <<'SH'
iptables -F FORWARD
says 'drifted' boxrun status hello
boxrun repair
says 'network: *in place' boxrun status hello
answers 8080 > /dev/null
SH

check 'doctor has nothing to say of IPv6' <<'SH'
boxrun doctor hello > /run/said || true # an emulated processor is slow, and the machine has no name server
cat /run/said
grep 'PASS *hello *8080/tcp connection' /run/said
not grep -i ipv6 /run/said
SH

check 'a port on an address of IPv6 reaches nobody, and up says so' <<'SH'
printf 'image = "builtin:hello"\n[network]\nports = ["[2001:db8::1]:8081:80"]\n' > /etc/boxrun/profiles/six.toml
says 'nobody reaches .2001:db8::1.:8081' boxrun up six
boxrun down six
SH

check 'after down nothing of the box is left' <<'SH'
boxrun down hello
not ip link show sbr0
iptables-save | { grep -i boxrun || true; } | none
find /run -name '*boxrun*' | none
SH
