package pacemaker

import (
	"strings"
	"testing"
)

// As crm and pcs write it, shortened.
const cib = `<?xml version="1.0"?>
<cib crm_feature_set="3.20.0" validate-with="pacemaker-4.0">
 <configuration>
  <resources>
   <primitive id="address" class="ocf" provider="heartbeat" type="IPaddr2">
    <instance_attributes id="address-ia"><nvpair name="profile" value="web" id="x"/></instance_attributes>
   </primitive>
   <group id="site">
    <primitive id="the-site" class="ocf" provider="boxrun" type="box">
     <operations><op name="monitor" interval="1s" id="m"/></operations>
     <instance_attributes id="the-site-ia">
      <nvpair name="repair" value="yes" id="a"/>
      <nvpair name="profile" value="web" id="b"/>
     </instance_attributes>
    </primitive>
   </group>
   <clone id="all">
    <primitive id="many" class="ocf" provider="boxrun" type="box">
     <instance_attributes id="many-ia"><nvpair name="profile" value="page@blue" id="c"/></instance_attributes>
    </primitive>
   </clone>
   <primitive id="unit" class="systemd" type="boxrun@mail"/>
   <primitive id="other" class="systemd" type="nginx"/>
   <primitive id="bare" class="ocf" provider="boxrun" type="box"/>
  </resources>
 </configuration>
</cib>`

func TestManagerOf(t *testing.T) {
	for box, want := range map[string]string{"web": "the-site", "page-blue": "many", "mail": "unit", "nginx": "", "": "", "address": ""} {
		got, err := managerIn(strings.NewReader(cib), box)
		if got != want || err != nil {
			t.Errorf("the manager of %q is %q, %v, want %q", box, got, err, want)
		}
	}
	if got, err := managerIn(strings.NewReader(cib[:len(cib)/3]), "mail"); err == nil {
		t.Errorf("a configuration that is cut short has the manager %q, want an error", got)
	}
}
