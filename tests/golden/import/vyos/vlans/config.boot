interfaces {
    ethernet eth1 {
        vif 10 {
            traffic-policy {
                in GUESTS
            }
        }
        vif 30 {
            traffic-policy {
                out SITE
            }
        }
        vif-s 100 {
            vif-c 20 {
                traffic-policy {
                    out SITE
                }
            }
        }
    }
}
traffic-policy {
    limiter GUESTS {
        default {
            bandwidth 5mbit
        }
    }
    shaper SITE {
        bandwidth 10mbit
        class 30 {
            bandwidth 10%
            ceiling 50%
            match phones {
                ip {
                    source {
                        address 198.51.100.1/24
                    }
                }
            }
            priority 5
            set-dscp CS5
        }
        class 40 {
            bandwidth 20%
            match servers {
                ipv6 {
                    source {
                        address 2001:db8::1/64
                    }
                }
            }
        }
        default {
            bandwidth 10%
            ceiling 100%
        }
    }
}
// Release version: 1.3.2
