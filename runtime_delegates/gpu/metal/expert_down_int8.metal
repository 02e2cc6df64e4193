// Written by build_shaders.py from shaders/expert_down.comp; do not edit. Compile without fast math.
#pragma clang diagnostic ignored "-Wmissing-prototypes"

#include <metal_stdlib>
#include <simd/simd.h>

using namespace metal;

template<typename T, uint A>
inline void spvArrayCopyFromStackToStack1(thread T (&dst)[A], thread const T (&src)[A])
{
    for (uint i = 0; i < A; i++)
    {
        dst[i] = src[i];
    }
}

template<typename T>
[[clang::optnone]] T spvFMul(T l, T r)
{
    return fma(l, r, T(0));
}

template<typename T>
[[clang::optnone]] T spvFAdd(T l, T r)
{
    return fma(T(1), l, r);
}

struct Weights
{
    uint4 weights[1];
};

#ifndef BLOCKFFN_TOKENS
#define BLOCKFFN_TOKENS 1u
#endif
constant uint TOKENS = BLOCKFFN_TOKENS;
constant uint _372 = (TOKENS * 2u);
#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint THREADS = BLOCKFFN_THREADS;
constant uint _375 = (THREADS * TOKENS);
constant uint _376 = (_375 * 2u);
constant uint _401 = (64u * TOKENS);
constant uint _437 = (64u * TOKENS);
constant bool _489 = (TOKENS > 1u);

struct Step
{
    uint step_[1];
};

struct Push
{
    uint first;
    uint tile_vectors;
    uint expert_vectors;
    uint first_expert;
    uint experts;
    uint rows;
    uint cols;
    uint x_stride;
    uint y_stride;
    uint all_experts;
    uint classes;
    uint flags;
    uint residual_stride;
};

constant uint _550 = (TOKENS * 2u);

struct Route
{
    uint route[1];
};

constant uint _663 = (1u << TOKENS);
constant uint _664 = (_663 - 1u);
constant uint _677 = (64u * TOKENS);
constant bool _768 = (TOKENS == 1u);
constant bool _770 = (_768 && true);
constant int _771 = _770 ? 8 : 4;
constant uint _772 = (uint(_771) + 0u);
constant bool _847 = (TOKENS == 1u);
constant bool _848 = (_847 && true);
constant int _849 = _848 ? 8 : 4;
constant uint _850 = (uint(_849) + 0u);

struct X
{
    float4 x[1];
};

constant bool _1018 = (TOKENS == 1u);
constant bool _1019 = (_1018 && true);
constant int _1020 = _1019 ? 8 : 4;
constant uint _1021 = (uint(_1020) + 0u);
constant uint _1046 = (8u * TOKENS);

struct Y
{
    float y[1];
};

struct Residual
{
    float residual[1];
};

#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint _1116 = BLOCKFFN_THREADS;
constant uint3 gl_WorkGroupSize [[maybe_unused]] = uint3(_1116, 1u, 1u);

kernel void expert_down_int8(constant Push& p [[buffer(0)]], const device Weights& _113 [[buffer(1)]], const device X& _930 [[buffer(2)]], device Y& _1085 [[buffer(3)]], const device Route& _569 [[buffer(4)]], const device Step& _496 [[buffer(5)]], const device Residual& _1101 [[buffer(6)]], uint3 gl_LocalInvocationID [[thread_position_in_threadgroup]], uint3 gl_WorkGroupID [[threadgroup_position_in_grid]])
{
    threadgroup float partial[_376];
    threadgroup float chunk_sums[_437];
    threadgroup uint counts[8];
    threadgroup uint slot_expert[64];
    threadgroup uint slot_mask[64];
    threadgroup float slot_weight[_677];
    do
    {
        uint _488 = gl_WorkGroupID.y * TOKENS;
        bool _500;
        if (_489)
        {
            _500 = _488 >= _496.step_[0];
        }
        else
        {
            _500 = _489;
        }
        if (_500)
        {
            break;
        }
        uint _1128 = ((p.cols + 7u) / 8u) * 4u;
        uint _518 = THREADS / p.classes;
        uint _522 = gl_LocalInvocationID.x / _518;
        uint _526 = 64u / p.classes;
        uint _1136 = ((p.all_experts + p.classes) - 1u) / p.classes;
        uint _542 = 16u + ((_1136 * p.classes) * 4u);
        float acc[16];
        for (uint _1534 = 0u; _1534 < _550; )
        {
            acc[_1534] = 0.0;
            _1534++;
            continue;
        }
        if (gl_LocalInvocationID.x < 8u)
        {
            counts[gl_LocalInvocationID.x] = _569.route[4u + gl_LocalInvocationID.x];
        }
        uint4 raw[8][1];
        uint pair[8];
        uint _1546;
        for (uint _1535 = 0u, _1547 = 1u; _1535 < _1128; _1547 = _1546, _1535 += _518)
        {
            _1546 = _1547;
            uint _1595;
            for (uint _1545 = 0u; _1545 < _1546; _1546 = _1595, _1545 += _526)
            {
                threadgroup_barrier(mem_flags::mem_threadgroup);
                uint _1549;
                _1549 = gl_LocalInvocationID.x;
                for (; _1549 < 64u; _1549 += THREADS)
                {
                    uint _620 = ((_1549 / _526) * _1136) + min((_1545 + (_1549 % _526)), (_1136 - 1u));
                    uint _624 = 16u + (_620 * 4u);
                    uint _630 = _569.route[_624] - p.first_expert;
                    slot_expert[_1549] = _630;
                    uint _1597;
                    if (_630 < p.experts)
                    {
                        _1597 = (_569.route[_624 + uint((_488 < 32u) ? 1 : 2)] >> (_488 & 31u)) & _664;
                    }
                    else
                    {
                        _1597 = 0u;
                    }
                    slot_mask[_1549] = _1597;
                    for (uint _1598 = 0u; _1598 < TOKENS; )
                    {
                        slot_weight[(_1549 * TOKENS) + _1598] = as_type<float>(_569.route[((_542 + (_620 * 64u)) + _488) + _1598]);
                        _1598++;
                        continue;
                    }
                }
                threadgroup_barrier(mem_flags::mem_threadgroup);
                _1595 = _1546;
                for (uint _1550 = 0u; _1550 < p.classes; )
                {
                    _1595 = max(_1595, counts[_1550]);
                    _1550++;
                    continue;
                }
                uint _723 = _1535 + (gl_LocalInvocationID.x % _518);
                uint _727 = _522 * _526;
                uint _1555;
                if ((_723 < _1128) && (counts[_522] > _1545))
                {
                    _1555 = min((counts[_522] - _1545), _526);
                }
                else
                {
                    _1555 = 0u;
                }
                uint _1556;
                _1556 = 0u;
                bool _758;
                for (;;)
                {
                    _758 = _1556 < _1555;
                    if (_758)
                    {
                        bool _773 = 0u < _772;
                        bool _781;
                        if (_773)
                        {
                            _781 = _758;
                        }
                        else
                        {
                            _781 = _773;
                        }
                        bool _792;
                        if (_781)
                        {
                            _792 = slot_mask[_727 + _1556] != 0u;
                        }
                        else
                        {
                            _792 = _781;
                        }
                        if (_792)
                        {
                            uint _813 = (p.first + (slot_expert[_727 + _1556] * p.expert_vectors)) + (gl_WorkGroupID.x * p.tile_vectors);
                            uint4 _1525[1] = { _113.weights[_813 + _723] };
                            spvArrayCopyFromStackToStack1(raw[0u], _1525);
                            pair[0u] = ((device uint*)&_113.weights[_813 + _1128])[_723 & 3u];
                        }
                        bool _1750 = 1u < _772;
                        bool _1755;
                        if (_1750)
                        {
                            _1755 = (_1556 + 1u) < _1555;
                        }
                        else
                        {
                            _1755 = _1750;
                        }
                        bool _1763;
                        if (_1755)
                        {
                            _1763 = slot_mask[(_727 + _1556) + 1u] != 0u;
                        }
                        else
                        {
                            _1763 = _1755;
                        }
                        if (_1763)
                        {
                            uint _1780 = (p.first + (slot_expert[(_727 + _1556) + 1u] * p.expert_vectors)) + (gl_WorkGroupID.x * p.tile_vectors);
                            uint4 _1788[1] = { _113.weights[_1780 + _723] };
                            spvArrayCopyFromStackToStack1(raw[1u], _1788);
                            pair[1u] = ((device uint*)&_113.weights[_1780 + _1128])[_723 & 3u];
                        }
                        bool _1799 = 2u < _772;
                        bool _1804;
                        if (_1799)
                        {
                            _1804 = (_1556 + 2u) < _1555;
                        }
                        else
                        {
                            _1804 = _1799;
                        }
                        bool _1812;
                        if (_1804)
                        {
                            _1812 = slot_mask[(_727 + _1556) + 2u] != 0u;
                        }
                        else
                        {
                            _1812 = _1804;
                        }
                        if (_1812)
                        {
                            uint _1829 = (p.first + (slot_expert[(_727 + _1556) + 2u] * p.expert_vectors)) + (gl_WorkGroupID.x * p.tile_vectors);
                            uint4 _1837[1] = { _113.weights[_1829 + _723] };
                            spvArrayCopyFromStackToStack1(raw[2u], _1837);
                            pair[2u] = ((device uint*)&_113.weights[_1829 + _1128])[_723 & 3u];
                        }
                        bool _1848 = 3u < _772;
                        bool _1853;
                        if (_1848)
                        {
                            _1853 = (_1556 + 3u) < _1555;
                        }
                        else
                        {
                            _1853 = _1848;
                        }
                        bool _1861;
                        if (_1853)
                        {
                            _1861 = slot_mask[(_727 + _1556) + 3u] != 0u;
                        }
                        else
                        {
                            _1861 = _1853;
                        }
                        if (_1861)
                        {
                            uint _1878 = (p.first + (slot_expert[(_727 + _1556) + 3u] * p.expert_vectors)) + (gl_WorkGroupID.x * p.tile_vectors);
                            uint4 _1886[1] = { _113.weights[_1878 + _723] };
                            spvArrayCopyFromStackToStack1(raw[3u], _1886);
                            pair[3u] = ((device uint*)&_113.weights[_1878 + _1128])[_723 & 3u];
                        }
                        bool _1897 = 4u < _772;
                        bool _1902;
                        if (_1897)
                        {
                            _1902 = (_1556 + 4u) < _1555;
                        }
                        else
                        {
                            _1902 = _1897;
                        }
                        bool _1910;
                        if (_1902)
                        {
                            _1910 = slot_mask[(_727 + _1556) + 4u] != 0u;
                        }
                        else
                        {
                            _1910 = _1902;
                        }
                        if (_1910)
                        {
                            uint _1927 = (p.first + (slot_expert[(_727 + _1556) + 4u] * p.expert_vectors)) + (gl_WorkGroupID.x * p.tile_vectors);
                            uint4 _1935[1] = { _113.weights[_1927 + _723] };
                            spvArrayCopyFromStackToStack1(raw[4u], _1935);
                            pair[4u] = ((device uint*)&_113.weights[_1927 + _1128])[_723 & 3u];
                        }
                        bool _1946 = 5u < _772;
                        bool _1951;
                        if (_1946)
                        {
                            _1951 = (_1556 + 5u) < _1555;
                        }
                        else
                        {
                            _1951 = _1946;
                        }
                        bool _1959;
                        if (_1951)
                        {
                            _1959 = slot_mask[(_727 + _1556) + 5u] != 0u;
                        }
                        else
                        {
                            _1959 = _1951;
                        }
                        if (_1959)
                        {
                            uint _1976 = (p.first + (slot_expert[(_727 + _1556) + 5u] * p.expert_vectors)) + (gl_WorkGroupID.x * p.tile_vectors);
                            uint4 _1984[1] = { _113.weights[_1976 + _723] };
                            spvArrayCopyFromStackToStack1(raw[5u], _1984);
                            pair[5u] = ((device uint*)&_113.weights[_1976 + _1128])[_723 & 3u];
                        }
                        bool _1995 = 6u < _772;
                        bool _2000;
                        if (_1995)
                        {
                            _2000 = (_1556 + 6u) < _1555;
                        }
                        else
                        {
                            _2000 = _1995;
                        }
                        bool _2008;
                        if (_2000)
                        {
                            _2008 = slot_mask[(_727 + _1556) + 6u] != 0u;
                        }
                        else
                        {
                            _2008 = _2000;
                        }
                        if (_2008)
                        {
                            uint _2025 = (p.first + (slot_expert[(_727 + _1556) + 6u] * p.expert_vectors)) + (gl_WorkGroupID.x * p.tile_vectors);
                            uint4 _2033[1] = { _113.weights[_2025 + _723] };
                            spvArrayCopyFromStackToStack1(raw[6u], _2033);
                            pair[6u] = ((device uint*)&_113.weights[_2025 + _1128])[_723 & 3u];
                        }
                        bool _2044 = 7u < _772;
                        bool _2049;
                        if (_2044)
                        {
                            _2049 = (_1556 + 7u) < _1555;
                        }
                        else
                        {
                            _2049 = _2044;
                        }
                        bool _2057;
                        if (_2049)
                        {
                            _2057 = slot_mask[(_727 + _1556) + 7u] != 0u;
                        }
                        else
                        {
                            _2057 = _2049;
                        }
                        if (_2057)
                        {
                            uint _2074 = (p.first + (slot_expert[(_727 + _1556) + 7u] * p.expert_vectors)) + (gl_WorkGroupID.x * p.tile_vectors);
                            uint4 _2082[1] = { _113.weights[_2074 + _723] };
                            spvArrayCopyFromStackToStack1(raw[7u], _2082);
                            pair[7u] = ((device uint*)&_113.weights[_2074 + _1128])[_723 & 3u];
                        }
                        for (uint _1560 = 0u; _1560 < 8u; _1560++)
                        {
                            bool _851 = _1560 >= _850;
                            bool _860;
                            if (!_851)
                            {
                                _860 = (_1556 + _1560) >= _1555;
                            }
                            else
                            {
                                _860 = _851;
                            }
                            if (_860)
                            {
                                continue;
                            }
                            uint _869 = (_727 + _1556) + _1560;
                            if (slot_mask[_869] == 0u)
                            {
                                continue;
                            }
                            uint _1181 = raw[_1560][0].x ^ 2155905152u;
                            float _1204 = as_type<float>((_1181 & 255u) | 1258291200u) - 8388736.0;
                            float _1212 = as_type<float>(((_1181 >> uint(8)) & 255u) | 1258291200u) - 8388736.0;
                            float _1220 = as_type<float>(((_1181 >> uint(16)) & 255u) | 1258291200u) - 8388736.0;
                            float _1228 = as_type<float>((_1181 >> uint(24)) | 1258291200u) - 8388736.0;
                            uint _2095 = raw[_1560][0].y ^ 2155905152u;
                            float _2099 = as_type<float>((_2095 & 255u) | 1258291200u) - 8388736.0;
                            float _2104 = as_type<float>(((_2095 >> uint(8)) & 255u) | 1258291200u) - 8388736.0;
                            float _2109 = as_type<float>(((_2095 >> uint(16)) & 255u) | 1258291200u) - 8388736.0;
                            float _2113 = as_type<float>((_2095 >> uint(24)) | 1258291200u) - 8388736.0;
                            uint _2125 = raw[_1560][0].z ^ 2155905152u;
                            float _2129 = as_type<float>((_2125 & 255u) | 1258291200u) - 8388736.0;
                            float _2134 = as_type<float>(((_2125 >> uint(8)) & 255u) | 1258291200u) - 8388736.0;
                            float _2139 = as_type<float>(((_2125 >> uint(16)) & 255u) | 1258291200u) - 8388736.0;
                            float _2143 = as_type<float>((_2125 >> uint(24)) | 1258291200u) - 8388736.0;
                            uint _2155 = raw[_1560][0].w ^ 2155905152u;
                            float _2159 = as_type<float>((_2155 & 255u) | 1258291200u) - 8388736.0;
                            float _2164 = as_type<float>(((_2155 >> uint(8)) & 255u) | 1258291200u) - 8388736.0;
                            float _2169 = as_type<float>(((_2155 >> uint(16)) & 255u) | 1258291200u) - 8388736.0;
                            float _2173 = as_type<float>((_2155 >> uint(24)) | 1258291200u) - 8388736.0;
                            uint _1233 = pair[_1560] & 65535u;
                            uint _1248 = _1233 & 32767u;
                            uint _1250 = _1248 << uint(13);
                            float _1265 = (_1248 < 1024u) ? (as_type<float>(947912704u | _1250) - 6.103515625e-05) : as_type<float>(_1250 + ((_1248 < 31744u) ? 939524096u : 1879048192u));
                            float _1567;
                            if ((_1233 & 32768u) != 0u)
                            {
                                _1567 = -_1265;
                            }
                            else
                            {
                                _1567 = _1265;
                            }
                            uint _1237 = pair[_1560] >> uint(16);
                            uint _1284 = _1237 & 32767u;
                            uint _1286 = _1284 << uint(13);
                            float _1301 = (_1284 < 1024u) ? (as_type<float>(947912704u | _1286) - 6.103515625e-05) : as_type<float>(_1286 + ((_1284 < 31744u) ? 939524096u : 1879048192u));
                            float _1568;
                            if ((_1237 & 32768u) != 0u)
                            {
                                _1568 = -_1301;
                            }
                            else
                            {
                                _1568 = _1301;
                            }
                            uint _904 = ((p.first_expert + slot_expert[_869]) * 64u) + _488;
                            for (uint _1569 = 0u; _1569 < TOKENS; _1569++)
                            {
                                uint _936 = p.x_stride * (_904 + _1569);
                                uint _1316 = (_723 >> uint(2)) * 2u;
                                uint _942 = _936 + _1316;
                                uint _2190 = _936 + (_1316 + 1u);
                                uint _961 = (_869 * TOKENS) + _1569;
                                uint _984 = _1569 * 2u;
                                bool _998 = ((slot_mask[_869] >> _1569) & 1u) != 0u;
                                float _1576;
                                if (_998)
                                {
                                    _1576 = fma(spvFMul(slot_weight[_961], _1567), fma(_2113, _930.x[_2190].w, fma(_2109, _930.x[_2190].z, fma(_2104, _930.x[_2190].y, fma(_2099, _930.x[_2190].x, fma(_1228, _930.x[_942].w, fma(_1220, _930.x[_942].z, fma(_1212, _930.x[_942].y, spvFMul(_1204, _930.x[_942].x)))))))), acc[_984]);
                                }
                                else
                                {
                                    _1576 = acc[_984];
                                }
                                acc[_984] = _1576;
                                uint _2274 = _984 + 1u;
                                float _2290;
                                if (_998)
                                {
                                    _2290 = fma(slot_weight[_961] * _1568, fma(_2173, _930.x[_2190].w, fma(_2169, _930.x[_2190].z, fma(_2164, _930.x[_2190].y, fma(_2159, _930.x[_2190].x, fma(_2143, _930.x[_942].w, fma(_2139, _930.x[_942].z, fma(_2134, _930.x[_942].y, _2129 * _930.x[_942].x))))))), acc[_2274]);
                                }
                                else
                                {
                                    _2290 = acc[_2274];
                                }
                                acc[_2274] = _2290;
                            }
                        }
                        _1556 += _1021;
                        continue;
                    }
                    else
                    {
                        break;
                    }
                }
            }
        }
        float param[16];
        spvArrayCopyFromStackToStack1(param, acc);
        for (uint _1536 = 0u; _1536 < _372; )
        {
            partial[(_1536 * THREADS) + gl_LocalInvocationID.x] = param[_1536];
            _1536++;
            continue;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        for (uint _1537 = gl_LocalInvocationID.x; _1537 < _401; _1537 += THREADS)
        {
            uint _1461 = (((_1537 / 32u) * THREADS) + ((_1537 / 8u) % 4u)) + (4u * (_1537 % 8u));
            float _1544;
            _1544 = partial[_1461];
            for (uint _1542 = 32u; _1542 < THREADS; )
            {
                _1544 = spvFAdd(_1544, partial[_1461 + _1542]);
                _1542 += 32u;
                continue;
            }
            chunk_sums[_1537] = _1544;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        uint _1039 = (gl_WorkGroupID.x * 8u) + (gl_LocalInvocationID.x % 8u);
        uint _1044 = _488 + (gl_LocalInvocationID.x / 8u);
        bool _1047 = gl_LocalInvocationID.x >= _1046;
        bool _1056;
        if (!_1047)
        {
            _1056 = _1039 >= p.rows;
        }
        else
        {
            _1056 = _1047;
        }
        if (_1056)
        {
            break;
        }
        uint _1066 = (_1044 * p.y_stride) + _1039;
        uint _1071 = gl_LocalInvocationID.x % 8u;
        uint _1502 = (((((gl_LocalInvocationID.x / 8u) * 2u) + (_1071 % 2u)) * 4u) + (_1071 / 2u)) * 8u;
        float _1742 = (((((spvFAdd(chunk_sums[_1502], chunk_sums[_1502 + 1u]) + chunk_sums[_1502 + 2u]) + chunk_sums[_1502 + 3u]) + chunk_sums[_1502 + 4u]) + chunk_sums[_1502 + 5u]) + chunk_sums[_1502 + 6u]) + chunk_sums[_1502 + 7u];
        float _1540;
        if ((p.flags & 1u) != 0u)
        {
            _1540 = spvFAdd(_1742, _1085.y[_1066]);
        }
        else
        {
            _1540 = _1742;
        }
        float _1541;
        if ((p.flags & 2u) != 0u)
        {
            _1541 = spvFAdd(_1540, _1101.residual[(_1044 * p.residual_stride) + _1039]);
        }
        else
        {
            _1541 = _1540;
        }
        _1085.y[_1066] = _1541;
        break;
    } while(false);
}

