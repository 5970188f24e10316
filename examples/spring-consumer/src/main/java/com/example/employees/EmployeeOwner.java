// SPDX-License-Identifier: Apache-2.0
package com.example.employees;

import java.time.Duration;
import org.springframework.beans.factory.annotation.Value;
import org.springframework.boot.http.client.ClientHttpRequestFactoryBuilder;
import org.springframework.boot.http.client.ClientHttpRequestFactorySettings;
import org.springframework.stereotype.Component;
import org.springframework.web.client.RestClient;

/** The service that owns employees, and knows what is true of them. */
@Component
class EmployeeOwner {

    private final RestClient http;

    EmployeeOwner(RestClient.Builder builder, @Value("${employees.owner}") String url) {
        // Less in all than the route's deadline in redrive.toml: then we end before Redrive gives the call up.
        var settings = ClientHttpRequestFactorySettings.defaults()
                .withConnectTimeout(Duration.ofSeconds(2))
                .withReadTimeout(Duration.ofSeconds(5));
        http = builder.baseUrl(url).requestFactory(ClientHttpRequestFactoryBuilder.detect().build(settings)).build();
    }

    EmployeeState get(long id) {
        return http.get().uri("/employees/{id}", id).retrieve().body(EmployeeState.class);
    }
}
